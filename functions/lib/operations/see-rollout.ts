import {
  type HistoryEntry,
  historyEntrySchema,
  type ObservedData,
  rolloutStatusSchema,
} from "../../../events/views.ts";
import type { Deps } from "../deps.ts";
import { type StatusAnswer, statusAnswer } from "../rollout/rollout-answers.ts";
import { type Moment, newestCommits, readPast } from "../rollout/rollout-past.ts";

type PastDeps = Pick<Deps, "log" | "database" | "now">;

/** A model's status at a moment. */
export async function statusAt(
  deps: PastDeps,
  model: string,
  moment: Moment,
): Promise<StatusAnswer> {
  return statusAnswer(deps, model, await readPast(deps, model, moment), moment);
}

/** The same, and what was decided up to then: the newest `most` events, oldest first. */
export async function historyAt(
  deps: PastDeps,
  model: string,
  moment: Moment,
  most: number,
): Promise<{ status: StatusAnswer; history: HistoryEntry[] }> {
  const past = await readPast(deps, model, moment);
  const status = await statusAnswer(deps, model, past, moment);
  const commits = await newestCommits(deps, past.commits, moment, most);
  const history = commits.flatMap(({ position, stream, events }) =>
    events.map((event): HistoryEntry => ({ position, stream, event: { ...event } })),
  );
  return { status, history: history.slice(-most) };
}

/** What fits into one answer over the WebSocket, beside the status. */
const mostHistoryBytes = 64 * 1024;
const mostHistory = 200;

export async function seeRollout(
  deps: PastDeps,
  model: string,
  moment: Moment,
): Promise<ObservedData["rollout"]> {
  const { status, history } = await historyAt(deps, model, moment, mostHistory);
  let bytes = 0;
  const kept = history.toReversed().filter((entry) => {
    bytes += Buffer.byteLength(JSON.stringify(entry));
    return bytes <= mostHistoryBytes;
  });
  return {
    status: rolloutStatusSchema.parse(status),
    history: kept.toReversed().map((entry) => historyEntrySchema.parse(entry)),
  };
}
