import { type ClusterCommand, ClusterError } from "../../../events/cluster-port.ts";
import type { DomainEvent } from "../../../events/event-catalog.ts";
import { VersionConflict } from "../../../events/event-log.ts";
import type { GroupCommand } from "../../../events/group.ts";
import type { RolloutCommand } from "../../../events/rollout.ts";
import { manage } from "../../../events/rollout-manager.ts";
import type { RolloutState } from "../../../events/rollout-state.ts";
import type { Deps } from "../deps.ts";
import { execute } from "../execute.ts";
import type { RequestLog } from "../request-log.ts";
import { groups, type Loaded, load, rollouts, type StreamKind } from "../streams.ts";
import { type ObserveDeps, observe } from "./observe.ts";
import { setWeights } from "./routing.ts";
import { tellWarming } from "./tell-warming.ts";

export type ManageDeps = ObserveDeps & Pick<Deps, "log">;

/** What was done of a model; a command to the cluster that failed is asked for again by the next tick. */
export interface Managed {
  /** Events that were recorded. */
  recorded: number;
  /** Commands that the cluster has followed, and those that it has not. */
  followed: number;
  failed: number;
}

/**
 * One thing recorded leads to the next: machines that are there already, to groups, to weights. What has
 * not come to rest by then goes on with the next tick.
 */
const mostRounds = 8;

/**
 * Brings a model nearer to what the log wants of it: observes, reads the log, records what the manager
 * (events/rollout-manager.ts) finds, and asks the cluster for what is missing. Any number of these may run
 * at the same time and end anywhere.
 * @throws what the cluster, Redis or the log throw when the model cannot be seen.
 */
export async function manageModel(
  deps: ManageDeps,
  model: string,
  log: RequestLog,
): Promise<Managed> {
  const total: Managed = { recorded: 0, followed: 0, failed: 0 };
  /** Nothing is asked twice: what takes its time is not there sooner for it. */
  const asked = new Set<string>();
  let known = await load(deps.log, rollouts, model);
  if (known.version === 0) return total;
  for (let round = 0; round < mostRounds; round++) {
    const observed = await observe(deps, model, known.state);
    known = await load(deps.log, rollouts, model);
    const members = await loadGroups(
      deps,
      known.state.groups.map(({ groupId }) => groupId),
    );
    const states = new Map([...members].map(([groupId, { state }]) => [groupId, state]));
    const { state, version } = known;
    const actions = manage({ state, version, groups: states, observed, now: deps.now() });
    let recorded = await record(deps, rollouts, model, known, actions.rollout, log);
    for (const [groupId, commands] of byGroup(actions.groups)) {
      const member = members.get(groupId);
      if (member !== undefined)
        recorded += await record(deps, groups, groupId, member, commands, log);
    }
    const before = asked.size;
    for (const command of actions.cluster) {
      const text = JSON.stringify(command);
      if (asked.has(text)) continue;
      asked.add(text);
      const failure = await follow(deps, command, log);
      total[failure === undefined ? "followed" : "failed"]++;
      if (failure !== undefined) recorded += await giveUp(deps, known.state, command, failure);
    }
    total.recorded += recorded;
    if (recorded > 0 || asked.size > before) continue;
    await tellWarming(deps, state, states);
    break;
  }
  return total;
}

async function loadGroups({ log }: Pick<Deps, "log">, groupIds: readonly string[]) {
  const loaded = groupIds.map(async (id) => [id, await load(log, groups, id)] as const);
  return new Map(await Promise.all(loaded));
}

function byGroup(commands: readonly GroupCommand[]): Map<string, GroupCommand[]> {
  return Map.groupBy(commands, ({ groupId }) => groupId);
}

/**
 * Appends what the commands cause right after the version that they were decided on. Where somebody else
 * has written meanwhile the rest is dropped: it may not be true any more.
 * @returns how many events were appended.
 */
async function record<
  Command extends RolloutCommand | GroupCommand,
  Event extends DomainEvent,
  State,
>(
  deps: Pick<Deps, "log">,
  kind: StreamKind<Command, Event, State>,
  id: string,
  { state: before, version: after }: Loaded<Event, State>,
  commands: readonly NoInfer<Command>[],
  log: RequestLog,
): Promise<number> {
  let state = before;
  let version = after;
  let recorded = 0;
  for (const command of commands) {
    const events = kind.decider.decide(command, state);
    if (events.length === 0) continue;
    try {
      ({ version } = await deps.log.append(kind.nameOf(id), version, events));
    } catch (error) {
      if (!(error instanceof VersionConflict)) throw error;
      log.info("somebody else has written meanwhile", { stream: kind.nameOf(id) });
      return recorded;
    }
    state = events.reduce(kind.decider.evolve, state);
    recorded += events.length;
    log.info("recorded", {
      stream: kind.nameOf(id),
      events: events.map(({ type }) => type),
    });
  }
  return recorded;
}

/** @returns why it was not done. One that cannot be done does not keep the others from being done. */
async function follow(
  deps: ManageDeps,
  command: ClusterCommand,
  log: RequestLog,
): Promise<unknown> {
  try {
    if (command.type === "SetWeights") {
      const { weights, version } = command;
      await setWeights(deps.redis, command.model, weights, version);
    } else await deps.cluster.follow(command);
    log.info("followed", { command });
    return undefined;
  } catch (error) {
    log[isHopeless(error) ? "error" : "warn"]("not followed", { command, error });
    return error;
  }
}

const isHopeless = (error: unknown): error is ClusterError =>
  error instanceof ClusterError && !error.retryable;

/**
 * A rollout whose revision the cluster will not have, however often it is asked, is rolled back at once,
 * instead of when its time is over.
 * @returns how many events were recorded.
 */
async function giveUp(
  { log, now }: Pick<Deps, "log" | "now">,
  { model, current }: RolloutState,
  command: ClusterCommand,
  failure: unknown,
): Promise<number> {
  const isWanted = command.type === "EnsureCapacity" || command.type === "CreateGroup";
  if (!isHopeless(failure) || !isWanted || model === undefined) return 0;
  if (command.revision !== current?.request.revision) return 0;
  const { rolloutId } = current.request;
  const reason = `${command.type} is refused by the cluster (${failure.code}): ${failure.message}`;
  const problem = { type: "ReportProblem", at: now(), model, rolloutId, reason } as const;
  const { events } = await execute(log, rollouts, model, () => problem);
  return events.length;
}
