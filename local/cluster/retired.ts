import type { RolloutState } from "../../events/rollout-state.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { load, rollouts } from "../../functions/lib/streams.ts";
import type { RevisionQueues } from "./revision-queues.ts";

/** Revisions that turns may be asked of, or that may still have some. */
export function inUse({ promoted, current, retiring, queue }: RolloutState): string[] {
  const waiting = queue.map(({ revision }) => revision);
  return [promoted, current?.request.revision, retiring?.revision, ...waiting].filter(
    (name) => name !== undefined,
  );
}

/**
 * Removes the queues of revisions that are retired. The log says that one is when its last turn has ended;
 * what is in its queue then are copies of jobs, which go to the dead letters or to nobody.
 * @param kept the stage's own revision, by whose queue the others are found.
 */
export async function removeRetiredQueues(
  { log }: Pick<Deps, "log">,
  queues: RevisionQueues,
  { model, revision: kept }: { model: string; revision: string },
): Promise<void> {
  const { state } = await load(log, rollouts, model);
  const used = new Set([kept, ...inUse(state)]);
  const retired = Object.keys(state.revisions).filter((revision) => !used.has(revision));
  for (const revision of retired) await queues.removeEmpty(revision);
}
