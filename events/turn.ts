import type { Decider } from "./decider.ts";
import { AxonError } from "./errors.ts";
import type { Sampling } from "./sampling.ts";
import type { ChatMessage, Priority, Timings, TurnEvent, Usage } from "./turn-events.ts";

/**
 * The turn: one prompt and its answer.
 *
 *   none       → requested   when a user asks.
 *   requested  → running     when a leader has claimed the job.
 *   running    → running     when another leader takes it over (a higher epoch).
 *   requested, running → completed | cancelled | failed   by the report of the leader with the
 *              highest epoch. These three are terminal: nothing changes a turn after them.
 *   requested  → cancelled   without a leader, when it was to be cancelled while admission held it: its
 *              job was never sent, and its stream is sealed.
 *   requested, running → failed   (cancelled, where it was to be) without a leader, when no group of its
 *              revision is left and none will come: its stream is sealed with a higher epoch than any
 *              leader's. What was said stays.
 *
 * A request to cancel is a wish, of the user or of a leader that sees nobody watching: it changes no
 * state. A turn that a leader may have ends when the leader reports how it ended, which may still be
 * `completed`, if the last token came first.
 *
 * Reports arrive at least once. One of a lower epoch comes from a leader that has lost the turn;
 * it says nothing. One that arrives before its `started` implies it.
 */

/** What the events of `turn/<id>` add up to. Times are Unix ms. */
export type TurnState =
  | { status: "none" }
  | {
      status: "requested" | "running" | "completed" | "cancelled" | "failed";
      turnId: string;
      tenantId: string;
      conversationId: string;
      model: string;
      revision: string;
      prompt: string;
      context?: ChatMessage[] | undefined;
      promptFormat?: "raw" | undefined;
      sampling: Sampling;
      priority: Priority;
      correlationId: string;
      requestedAt: number;
      epoch: number;
      cancelRequested: boolean;
      /** The answer, once the turn has ended. */
      text: string;
      /** Its conversation was erased: there is neither prompt nor answer any more. */
      erased?: true | undefined;
    };

type Stamp = { at: number; turnId: string };
type Runner = { groupId: string; leaderId: string; epoch: number };
type Ending = Runner & { startedAt: number; text: string; usage: Usage; timings: Timings };

/** `at` is Unix ms. */
export type TurnCommand =
  | ({ type: "RequestTurn" } & Stamp & {
        conversationId: string;
        tenantId: string;
        model: string;
        revision: string;
        prompt: string;
        context?: ChatMessage[];
        promptFormat?: "raw";
        sampling: Sampling;
        priority: Priority;
        correlationId: string;
      })
  | ({ type: "ReportStarted"; emittedTokens: number } & Stamp & Runner)
  | ({ type: "RequestCancel"; tenantId: string; reason: "user" | "abandoned" } & Stamp)
  /** No leader has had the turn, and none will: its stream was sealed with this epoch. */
  | ({ type: "EndUnclaimed"; epoch: number } & Stamp)
  /** No leader has the turn, and none of its revision will come: its stream was sealed with this epoch. */
  | ({
      type: "EndStranded";
      epoch: number;
      text: string;
      usage: Usage;
      timings: Timings;
      code: string;
      message: string;
    } & Stamp)
  | ({ type: "ReportCompleted"; finishReason: "stop" | "length" } & Stamp & Ending)
  | ({ type: "ReportCancelled"; reason: "user" | "abandoned" } & Stamp & Ending)
  | ({ type: "ReportFailed"; code: string; message: string } & Stamp & Ending);

/** Whether the turn has ended. Nothing changes it any more. */
export function isTerminal(state: TurnState): boolean {
  return state.status === "completed" || state.status === "cancelled" || state.status === "failed";
}

/** The decider of turns. Its states are told above. */
export const turn: Decider<TurnCommand, TurnEvent, TurnState> = {
  initialState: () => ({ status: "none" }),
  decide,
  evolve,
};

function decide(command: TurnCommand, state: TurnState): TurnEvent[] {
  if (command.type === "RequestTurn") {
    if (state.status !== "none") return [];
    const { type: _, ...request } = command;
    return [{ type: "TurnRequested", version: 1, ...request }];
  }
  if (state.status === "none") {
    throw new AxonError("turn_not_found", `There is no turn ${command.turnId}.`, {
      field: "turnId",
    });
  }
  const stamp = { version: 1, at: command.at, turnId: command.turnId } as const;
  if (command.type === "RequestCancel") {
    if (command.tenantId !== state.tenantId) {
      throw new AxonError("turn_not_found", `There is no turn ${command.turnId}.`, {
        field: "turnId",
      });
    }
    if (isTerminal(state) || state.cancelRequested) return [];
    return [{ type: "TurnCancelRequested", ...stamp, reason: command.reason }];
  }
  if (command.type === "EndUnclaimed") {
    if (state.status !== "requested" || !state.cancelRequested) return [];
    const usage = { promptTokens: 0, completionTokens: 0 };
    const queuedMs = Math.max(0, command.at - state.requestedAt);
    const timings = { queuedMs, firstTokenMs: 0, totalMs: 0 };
    return [{ type: "TurnCancelled", ...stamp, epoch: command.epoch, text: "", usage, timings }];
  }
  if (isTerminal(state) || command.epoch < state.epoch) return [];
  if (command.type === "EndStranded") {
    const { epoch, text, usage, timings, code, message } = command;
    const end = { ...stamp, epoch, text, usage };
    if (state.cancelRequested) return [{ type: "TurnCancelled", ...end, timings }];
    return [{ type: "TurnFailed", ...end, code, message }];
  }
  if (command.type === "ReportStarted") return started(command, state.epoch, command.at);

  const { epoch, text, usage, timings } = command;
  const implied = started({ ...command, emittedTokens: 0 }, state.epoch, command.startedAt);
  switch (command.type) {
    case "ReportCompleted": {
      const { finishReason } = command;
      return [
        ...implied,
        { type: "TurnCompleted", ...stamp, epoch, text, usage, finishReason, timings },
      ];
    }
    case "ReportCancelled": {
      const { reason } = command;
      const isNews = reason === "abandoned" && !state.cancelRequested;
      const wish: TurnEvent[] = isNews ? [{ type: "TurnCancelRequested", ...stamp, reason }] : [];
      const end = { type: "TurnCancelled", ...stamp, epoch, text, usage, timings } as const;
      return [...implied, ...wish, end];
    }
    case "ReportFailed": {
      const { code, message } = command;
      return [...implied, { type: "TurnFailed", ...stamp, epoch, text, usage, code, message }];
    }
  }
}

/** The event that says who runs the turn, unless the log has it already. */
function started(
  report: { turnId: string; emittedTokens: number } & Runner,
  knownEpoch: number,
  at: number,
): TurnEvent[] {
  const { turnId, groupId, leaderId, epoch, emittedTokens } = report;
  if (epoch <= knownEpoch) return [];
  const fact = { version: 1, at, turnId, groupId, leaderId, epoch } as const;
  if (knownEpoch === 0) return [{ type: "TurnStarted", ...fact }];
  return [{ type: "TurnTakenOver", ...fact, emittedTokens }];
}

function evolve(state: TurnState, event: TurnEvent): TurnState {
  if (event.type === "TurnRequested") {
    const { type: _type, version: _version, at, sealed: _sealed, ...request } = event;
    return {
      ...request,
      status: "requested",
      requestedAt: at,
      epoch: 0,
      cancelRequested: false,
      text: "",
    };
  }
  if (state.status === "none") return state;
  switch (event.type) {
    case "TurnStarted":
    case "TurnTakenOver":
      return { ...state, status: "running", epoch: event.epoch };
    case "TurnCancelRequested":
      return { ...state, cancelRequested: true };
    case "TurnCompleted":
      return { ...state, status: "completed", text: event.text };
    case "TurnCancelled":
      return { ...state, status: "cancelled", epoch: event.epoch, text: event.text };
    case "TurnFailed":
      return { ...state, status: "failed", text: event.text };
  }
}
