import type { Decider } from "./decider.ts";
import { AxonError } from "./errors.ts";
import type { GroupEvent } from "./group-events.ts";

/**
 * The group: a leader and its ranks, holding one copy of a model. It is one unit; any rank's death is
 * its own. An id is used once: what is gone stays gone, and a late command for it does nothing.
 *
 *   none     → forming    when the rollout manager wants one more group of a revision.
 *   forming  → ready      its leader's heartbeat shows that it takes turns. One of a lower epoch than
 *                         the last is of the past; one of the same is of a group that was thought lost.
 *            → failed     it was not ready in time (`formMs`), or the cluster says that it never will be.
 *            → draining   it is not wanted any more.
 *   ready    → forming    it was lost: its heartbeats stopped, or it is there again with a higher epoch.
 *                         The cluster starts it again under the same id; `formMs` begins anew.
 *            → draining   it is not wanted any more: it takes no new turns, and ends those it has.
 *   draining → gone       the cluster does not have it any more. There is no timeout: no group is killed
 *                         with turns on it, and who waits too long for it is the rollout (rollout.ts).
 *   failed   → gone       likewise; it runs nothing.
 *
 * `failed` is seen by the rollout, which rolls back or asks for another group.
 */

/** What the events of `group/<id>` add up to. Times are Unix ms. */
export type GroupState =
  | { status: "none" }
  | {
      status: "forming" | "ready" | "draining" | "failed" | "gone";
      groupId: string;
      model: string;
      revision: string;
      formMs: number;
      requestedAt: number;
      /** When it began to form, the last time. */
      formingSince: number;
      /** Of the last time that it was ready; 0 before the first. */
      epoch: number;
      slots: number;
      /** How long it took to form, the last time; undefined before it was ready. */
      formedInMs: number | undefined;
      /** How often it was lost while it was wanted. */
      losses: number;
      /** Also after it is gone. */
      hasFailed: boolean;
      /** Why it failed, or is drained. */
      reason: string | undefined;
    };

/** A group that was asked for. */
export type KnownGroup = Exclude<GroupState, { status: "none" }>;

type Stamp = { at: number; groupId: string };

/** `at` is Unix ms. */
export type GroupCommand =
  | ({ type: "RequestGroup"; model: string; revision: string; formMs: number } & Stamp)
  | ({ type: "ReportReady"; epoch: number; ranks: number; slots: number } & Stamp)
  | ({ type: "ReportLost"; epoch: number; reason: string } & Stamp)
  /** Fails a group whose time to form is over by `at`. */
  | ({ type: "CheckForming" } & Stamp)
  | ({ type: "ReportFailed"; reason: string } & Stamp)
  | ({ type: "DrainGroup"; reason: string } & Stamp)
  | ({ type: "ReportGone" } & Stamp);

/** The decider of a group. Its states are told above. */
export const group: Decider<GroupCommand, GroupEvent, GroupState> = {
  initialState: () => ({ status: "none" }),
  decide,
  evolve,
};

function decide(command: GroupCommand, state: GroupState): GroupEvent[] {
  const { at, groupId } = command;
  const stamp = { version: 1, at, groupId } as const;
  if (command.type === "RequestGroup") {
    if (state.status !== "none") return [];
    const { model, revision, formMs } = command;
    return [{ type: "GroupRequested", ...stamp, model, revision, formMs }];
  }
  if (state.status === "none") {
    throw new AxonError("not_found", `There is no group ${groupId}.`, { field: "groupId" });
  }
  const { status } = state;
  switch (command.type) {
    case "ReportReady": {
      const { epoch, ranks, slots } = command;
      const ready = { type: "GroupReady", ...stamp, epoch, ranks, slots } as const;
      if (status === "forming" && epoch >= state.epoch) return [ready];
      if (status !== "ready" || epoch <= state.epoch) return [];
      const reason = `it is there again with epoch ${epoch}`;
      return [{ type: "GroupLost", ...stamp, epoch: state.epoch, reason }, ready];
    }
    case "ReportLost":
      if (status !== "ready" || command.epoch !== state.epoch) return [];
      return [{ type: "GroupLost", ...stamp, epoch: state.epoch, reason: command.reason }];
    case "CheckForming": {
      if (status !== "forming" || at < formDeadline(state)) return [];
      const reason = `it was not ready within ${state.formMs} ms`;
      return [{ type: "GroupFailed", ...stamp, cause: "timeout", reason }];
    }
    case "ReportFailed":
      if (status !== "forming") return [];
      return [{ type: "GroupFailed", ...stamp, cause: "cluster", reason: command.reason }];
    case "DrainGroup":
      if (status !== "forming" && status !== "ready") return [];
      return [{ type: "GroupDraining", ...stamp, reason: command.reason }];
    case "ReportGone":
      if (status !== "draining" && status !== "failed") return [];
      return [{ type: "GroupGone", ...stamp }];
  }
}

function evolve(state: GroupState, event: GroupEvent): GroupState {
  if (event.type === "GroupRequested") {
    const { groupId, model, revision, formMs, at } = event;
    return {
      status: "forming",
      ...{ groupId, model, revision, formMs },
      requestedAt: at,
      formingSince: at,
      epoch: 0,
      slots: 0,
      formedInMs: undefined,
      losses: 0,
      hasFailed: false,
      reason: undefined,
    };
  }
  if (state.status === "none") return state;
  switch (event.type) {
    case "GroupReady": {
      const { epoch, slots, at } = event;
      const formedInMs = Math.max(0, at - state.formingSince);
      return { ...state, status: "ready", epoch, slots, formedInMs };
    }
    case "GroupLost":
      return { ...state, status: "forming", formingSince: event.at, losses: state.losses + 1 };
    case "GroupFailed":
      return { ...state, status: "failed", hasFailed: true, reason: event.reason };
    case "GroupDraining":
      return { ...state, status: "draining", reason: event.reason };
    case "GroupGone":
      return { ...state, status: "gone" };
  }
}

/** When a group that forms has failed, Unix ms. */
export function formDeadline({ formingSince, formMs }: KnownGroup): number {
  return formingSince + formMs;
}
