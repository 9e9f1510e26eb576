import * as z from "zod";
import type { Commit } from "../../../events/event-log.ts";
import type { GroupState } from "../../../events/group.ts";
import { measurementsOf } from "../../../events/rollout-manager.ts";
import {
  type CurrentRollout,
  deadlineOf,
  type MemberGroup,
  type RolloutState,
  statusOf,
  stepInForce,
} from "../../../events/rollout-state.ts";
import type { Deps } from "../deps.ts";
import { isOutage } from "../failures.ts";
import { observeMeasures } from "./observe-turns.ts";
import type { Moment, Past } from "./rollout-past.ts";

/** How an operator is shown a model. All times are Unix ms; what is not known, or is not there, is null. */

export type StatusAnswer = Awaited<ReturnType<typeof statusAnswer>>;

/** Finished rollouts that are shown. */
const mostPast = 10;

/** @param moment that `past` was read up to; gates are measured as of then. */
export async function statusAnswer(
  deps: Pick<Deps, "database" | "now">,
  model: string,
  past: Past,
  moment: Moment,
) {
  const { state, commits, groups } = past;
  const { promoted = null, previous = null, weights, weightsVersion, retiring = null } = state;
  const last = commits.at(-1);
  return {
    model,
    status: statusOf(state),
    ...{ promoted, previous, weights, weightsVersion },
    scales: scalesAnswer(state),
    groups: state.groups.map((member) => groupAnswer(member, groups.get(member.groupId))),
    rollout: state.current === undefined ? null : rolloutAnswer(state.current),
    /** When the phase is late. */
    deadline: deadlineOf(state) ?? null,
    gates: await gatesAnswer(deps, past, moment),
    retiring,
    queue: state.queue.map(({ rolloutId, revision, by }) => ({ rolloutId, revision, by })),
    past: state.past.slice(-mostPast),
    /** The last commit that this was made of. */
    version: last?.version ?? 0,
    position: last?.position ?? null,
  };
}

/** Of the revisions that have traffic, or are to get some. */
function scalesAnswer({ weights, promoted, current, revisions }: RolloutState) {
  const names = [...weights.map(({ revision }) => revision), promoted, current?.request.revision];
  return [...new Set(names)].flatMap((revision) => {
    const known = revision === undefined ? undefined : revisions[revision];
    return known === undefined ? [] : [{ revision, ...known.scale }];
  });
}

function groupAnswer({ groupId, revision, isReleased }: MemberGroup, state: GroupState = none) {
  if (state.status === "none") return { groupId, revision, isReleased, status: "asked for" };
  const { status, epoch, slots, losses, formedInMs = null, reason = null } = state;
  return { groupId, revision, isReleased, status, epoch, slots, losses, formedInMs, reason };
}

const none: GroupState = { status: "none" };

function rolloutAnswer(current: CurrentRollout) {
  const { request, phase, step, startedAt, since, watchedSince, paused = null } = current;
  const { rolloutId, revision, steps, bakeMs, by, reason, automaticRollback } = request;
  return {
    ...{ rolloutId, revision, by, reason, phase, step, steps, bakeMs, automaticRollback },
    percent: steps[stepInForce(current)] ?? 0,
    ...{ startedAt, since, watchedSince, paused },
  };
}

/** What the step in force has to show, what it has shown, and how it was last judged. */
async function gatesAnswer(
  deps: Pick<Deps, "database" | "now">,
  { state, commits }: Past,
  { at, position }: Moment,
) {
  const { current } = state;
  if (current === undefined) return null;
  const until = at === undefined ? {} : { until: at };
  const measured = await whereKnown(
    measurementsOf(state).map(async (asked) => ({
      revision: asked.revision,
      ...(await observeMeasures(deps, { ...asked, ...until })),
    })),
  );
  const isNow = at === undefined && position === undefined;
  const [lagMs] = (isNow ? await whereKnown([lagOf(deps, current.request, commits)]) : null) ?? [];
  const judged = commits
    .flatMap(({ events }) => events)
    .filter((event) => event.type === "GatePassed" || event.type === "GateFailed")
    .findLast(({ rolloutId }) => rolloutId === current.request.rolloutId);
  return {
    limits: current.request.gates,
    measured,
    /** How far the projection is behind, which is what the gates see turns by. */
    lagMs: lagMs ?? null,
    judged: judged ?? null,
  };
}

const toldSchema = z.array(z.object({ log_version: z.int() })).max(1);

/** The age, in ms, of the oldest commit of the model's stream that the projection has not told; 0 where it has all. */
async function lagOf(
  { database, now }: Pick<Deps, "database" | "now">,
  { model }: { model: string },
  commits: readonly Commit[],
): Promise<number> {
  const { rows } = await database.query("SELECT log_version FROM rollouts WHERE model = $1", [
    model,
  ]);
  const told = toldSchema.parse(rows)[0]?.log_version ?? 0;
  const oldest = commits.find(({ version }) => version > told)?.events[0];
  return oldest === undefined ? 0 : Math.max(0, now() - oldest.at);
}

/** Null while PostgreSQL is away. */
async function whereKnown<Answer>(asked: readonly Promise<Answer>[]): Promise<Answer[] | null> {
  try {
    return await Promise.all(asked);
  } catch (error) {
    if (isOutage(error)) return null;
    throw error;
  }
}
