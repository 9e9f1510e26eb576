import { leasesKey } from "../../../events/redis-keys.ts";
import type { RolloutState } from "../../../events/rollout-state.ts";
import { isTerminal, type TurnCommand } from "../../../events/turn.ts";
import type { Deps } from "../deps.ts";
import { execute } from "../execute.ts";
import { type RequestedTurn, rolloutState, turns } from "../streams.ts";
import { type SealedStream, sealStranded } from "./seal-stranded.ts";

/**
 * Turns that are stranded: open, of a revision that has no groups and will get none. So end those that a
 * revision still had when its time to end them was over (`drainMs`), and one that a handler asked of a
 * revision which was being retired just then. A turn never changes its revision, so it cannot go on elsewhere.
 */

/**
 * Whether no group of the revision is left, and none will come by what the log says now. A revision that
 * the log has never heard of is not ours to judge: a deployment without rollouts has no other.
 */
export function isAbandoned(
  { revisions, groups, promoted, current, retiring, queue }: RolloutState,
  revision: string,
): boolean {
  if (revisions[revision] === undefined) return false;
  if (groups.some((group) => group.revision === revision)) return false;
  const wanted = [promoted, current?.request.revision, ...queue.map((next) => next.revision)];
  if (wanted.includes(revision)) return false;
  return retiring?.revision !== revision || (retiring.isDraining && retiring.isOverdue);
}

/** Looks a model's state up once, for as many turns as there are. */
export function abandonedRevisions({
  log,
}: Pick<Deps, "log">): (turn: { model: string; revision: string }) => Promise<boolean> {
  const known = new Map<string, Promise<RolloutState>>();
  return async ({ model, revision }) => {
    const state = known.get(model) ?? rolloutState(log, model);
    known.set(model, state);
    return isAbandoned(await state, revision);
  };
}

const error = {
  code: "unavailable",
  message: "The model's revision was retired before the answer was complete. Ask again.",
};

/**
 * Ends a stranded turn. The stream comes first: it is how whoever watches hears of it, and nobody can claim
 * the turn after it. If this breaks off in between, the next sweep finds the sealed stream and records it.
 * @returns whether it has ended; not while a leader holds it all the same.
 */
export async function endStranded(
  deps: Pick<Deps, "log" | "redis" | "now">,
  turn: RequestedTurn,
): Promise<boolean> {
  const { turnId, revision } = turn;
  const sealed = await sealStranded(deps, turn, error, deps.now());
  if (sealed === undefined) return false;
  const command = endingOf(turnId, sealed, deps.now());
  const { state } = await execute(deps.log, turns, turnId, () => command);
  await deps.redis.zrem(leasesKey(revision), turnId);
  return state.status !== "none" && isTerminal(state);
}

/** What a leader has sealed it would have reported; else nobody has had the turn in the end. */
function endingOf(
  turnId: string,
  { epoch, leaderId, groupId, startedAt, text, end }: SealedStream,
  at: number,
): TurnCommand {
  const { usage, timings, finishReason } = end;
  const { code, message } = end.error ?? error;
  const facts = { at, turnId, epoch, text, usage, timings };
  if (leaderId === "none") return { type: "EndStranded", ...facts, code, message };
  const ending = { ...facts, leaderId, groupId, startedAt };
  switch (finishReason) {
    case "stop":
    case "length":
      return { type: "ReportCompleted", ...ending, finishReason };
    case "cancelled":
      return { type: "ReportCancelled", ...ending, reason: "user" };
    case "failed":
      return { type: "ReportFailed", ...ending, code, message };
  }
}
