import * as z from "zod";
import type { ObservedData } from "../../../events/views.ts";
import { isOutage } from "../failures.ts";
import { managedModels } from "../rollout/managed-models.ts";
import { readPast } from "../rollout/rollout-past.ts";
import type { OperatorDeps, Viewer } from "./operator.ts";
import { seeGroups } from "./see-groups.ts";
import { seeQueues } from "./see-queues.ts";
import { seeSpan } from "./see-series.ts";

const openSchema = z.tuple([
  z.object({ running: z.int(), waiting: z.int(), oldest: z.date().nullable() }),
]);

const sloWindowMs = 5 * 60_000;

export async function seeOverview(
  deps: OperatorDeps,
  viewer: Viewer,
): Promise<ObservedData["overview"]> {
  const { database, facts, now } = deps;
  const [models, groups, deadLetters, { rows }, minute, window] = await Promise.all([
    managedModels(deps).then((names) => Promise.all(names.map((model) => modelOf(deps, model)))),
    seeGroups(deps),
    deadLettersOf(deps),
    database.query(
      `SELECT count(*) FILTER (WHERE status = 'running')::int AS running,
         count(*) FILTER (WHERE status = 'requested')::int AS waiting,
         min(requested_at) FILTER (WHERE status = 'requested') AS oldest
       FROM turns WHERE status IN ('requested', 'running') AND ($1::text IS NULL OR tenant_id = $1)`,
      [viewer.tenantId ?? null],
    ),
    seeSpan(deps, 60_000, viewer),
    seeSpan(deps, sloWindowMs, viewer),
  ]);
  const [{ running, waiting, oldest }] = openSchema.parse(rows);
  const count = (...statuses: string[]) =>
    groups.filter(({ status }) => statuses.includes(status)).length;
  return {
    ...{ stage: facts.stage, models, deadLetters },
    groups: {
      ready: count("ready"),
      forming: count("asked for", "forming", "silent"),
      draining: count("draining"),
    },
    turns: {
      ...{ running, waiting },
      oldestWaitMs: oldest === null ? null : Math.max(0, now() - oldest.getTime()),
      lastMinute: { ended: minute.turns, failed: minute.failed },
    },
    slo: {
      firstTokenP95Ms: window.firstTokenP95Ms,
      interTokenP95Ms: window.interTokenP95Ms,
      errorPercent: window.turns === 0 ? null : (window.failed / window.turns) * 100,
    },
  };
}

async function modelOf(
  deps: OperatorDeps,
  model: string,
): Promise<ObservedData["overview"]["models"][number]> {
  const { state } = await readPast(deps, model, {});
  const { current, weights } = state;
  const phase = current && (current.paused === undefined ? current.phase : "paused");
  return { model, weights: [...weights], rolloutPhase: phase ?? null };
}

/** Null while the queues do not answer: the rest is worth seeing all the more. */
async function deadLettersOf(deps: OperatorDeps): Promise<number | null> {
  try {
    return (await seeQueues(deps)).reduce((sum, queue) => sum + queue.deadLetters, 0);
  } catch (error) {
    if (isOutage(error)) return null;
    throw error;
  }
}
