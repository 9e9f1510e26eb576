import type { Observed, ObservedMeasures } from "../../../events/cluster-port.ts";
import { measurementsOf } from "../../../events/rollout-manager.ts";
import type { RolloutState } from "../../../events/rollout-state.ts";
import type { Deps } from "../deps.ts";
import { isOutage } from "../failures.ts";
import { failureForLog } from "../request-log.ts";
import { observeGroups } from "./observe-groups.ts";
import { observeLastTurns, observeLoad, observeMeasures } from "./observe-turns.ts";
import { readWeights } from "./routing.ts";

export type ObserveDeps = Pick<Deps, "cluster" | "redis" | "database" | "log" | "now" | "logger">;

/**
 * A model as it is seen outside of the log.
 * @param known the log as it was before; it says where to look, and what to measure.
 * @throws what the cluster and Redis throw. What PostgreSQL does not say now is left out.
 */
export async function observe(
  deps: ObserveDeps,
  model: string,
  known: RolloutState,
): Promise<Observed> {
  const at = deps.now();
  const [{ groups, capacity }, weights] = await Promise.all([
    observeGroups(deps, model, Object.keys(known.revisions)),
    readWeights(deps.redis, model),
  ]);
  const revisions = new Set([
    ...Object.keys(known.revisions),
    ...groups.map(({ revision }) => revision),
  ]);
  const [load, measured] = await Promise.all([
    whereKnown(deps, [...revisions], async (revision) => [
      revision,
      await (known.retiring?.revision === revision ? observeLastTurns : observeLoad)(
        deps,
        revision,
      ),
    ]),
    whereKnown(deps, measurementsOf(known), (asked) => measuresOf(deps, asked)),
  ]);
  return { at, groups, capacity, load, measured, weights };
}

async function measuresOf(
  deps: ObserveDeps,
  asked: { revision: string; since: number },
): Promise<[string, ObservedMeasures]> {
  return [asked.revision, await observeMeasures(deps, asked)];
}

/** While PostgreSQL is away nothing is decided by what it would say, and the rest goes on. */
async function whereKnown<Asked, Answer>(
  { logger }: Pick<Deps, "logger">,
  asked: readonly Asked[],
  answer: (one: Asked) => Promise<[string, Answer]>,
): Promise<Record<string, Answer>> {
  try {
    return Object.fromEntries(await Promise.all(asked.map(answer)));
  } catch (error) {
    if (!isOutage(error)) throw error;
    logger.warn("turns are not seen", { failure: failureForLog(error) });
    return {};
  }
}
