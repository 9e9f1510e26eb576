import { autoscale, type ScaleDecision } from "./autoscale.ts";
import type { Heartbeat, Observed, ObservedGroup } from "./cluster-port.ts";
import type { GroupState, KnownGroup } from "./group.ts";
import {
  areSameWeights,
  type CurrentRollout,
  membersOf,
  type RolloutState,
  stepInForce,
} from "./rollout-state.ts";

/** What the rollout manager reads out of the log and the cluster: which groups serve, which there are to be. */

/** What the rollout manager decides by. */
export interface ManagerInput {
  state: RolloutState;
  /** Version of the last commit of the model's stream: the log as the decisions know it. */
  version: number;
  /** Those of `state.groups`, by id; one that was not asked for yet may be left out. */
  groups: ReadonlyMap<string, GroupState>;
  /** Observed before the log was read (cluster-port.ts). */
  observed: Observed;
  /** Unix ms. */
  now: number;
}

/** A group that is silent for longer is lost: its leases have run out, and its turns are others'. */
export const silentMs = 10_000;

/** The group as it is seen; undefined where there is no sign of it. */
export function seen({ observed }: ManagerInput, groupId: string): ObservedGroup | undefined {
  return observed.groups.find((group) => group.groupId === groupId);
}

/** The heartbeat of a group that lives. */
export function pulse(input: ManagerInput, groupId: string): Heartbeat | undefined {
  const heartbeat = seen(input, groupId)?.heartbeat;
  if (heartbeat === undefined) return undefined;
  return input.observed.at - heartbeat.at <= silentMs ? heartbeat : undefined;
}

/** A revision's groups that were asked for, also those on their way out. */
function knownGroups({ state, groups }: ManagerInput, revision: string): KnownGroup[] {
  return state.groups.flatMap((member) => {
    const group = groups.get(member.groupId);
    const isKnown = member.revision === revision && group !== undefined && group.status !== "none";
    return isKnown ? [group] : [];
  });
}

/** A revision's groups that are to stay and that may yet serve. */
export function living({ state, groups }: ManagerInput, revision: string): string[] {
  return membersOf(state, revision)
    .map(({ groupId }) => groupId)
    .filter((groupId) => {
      const status = groups.get(groupId)?.status;
      return status !== "failed" && status !== "gone";
    });
}

/** Those that take turns, by the log and by their heartbeat. */
export function serving(input: ManagerInput, revision: string): string[] {
  return living(input, revision).filter((groupId) => {
    const group = input.groups.get(groupId);
    const heartbeat = pulse(input, groupId);
    if (group?.status !== "ready" || heartbeat === undefined) return false;
    return heartbeat.isAccepting && heartbeat.epoch === group.epoch;
  });
}

/** Whether chat picks revisions by the weights that the log says. */
export function isInForce({ state, observed }: ManagerInput): boolean {
  return areSameWeights(state.weights, observed.weights?.weights ?? []);
}

/**
 * Groups that a revision needs for its next step: the step's share of those that serve now, so that
 * what moves over finds as much room as it had.
 */
export function neededFor(input: ManagerInput, { request, step }: CurrentRollout): number {
  const { promoted } = input.state;
  const base = promoted === undefined ? 0 : living(input, promoted).length;
  const share = Math.ceil(((request.steps[step] ?? 100) / 100) * base);
  const { min, max } = request.scale;
  return Math.min(max, Math.max(1, min, share));
}

/** How many groups of a revision are to stay. */
export function desired(input: ManagerInput, revision: string): ScaleDecision {
  const { state, observed } = input;
  const { promoted, current, retiring } = state;
  const groups = living(input, revision).length;
  if (retiring?.revision === revision) {
    // Also for those that run: whoever runs them may die.
    const isWaitedFor = (observed.load[revision]?.openTurns ?? 0) > 0 && !retiring.isOverdue;
    const reason = isWaitedFor ? "it still has turns" : "it has no traffic and no turns";
    const least = isWaitedFor ? 1 : 0;
    return { groups: retiring.isDraining ? least : Math.max(groups, least), reason };
  }
  const isCandidate = current?.request.revision === revision;
  if (!isCandidate && revision !== promoted) return { groups: 0, reason: "it is not in use" };
  const scaled = byLoad(input, revision, groups);
  if (!isCandidate) {
    // While another revision is tried, this one is kept as it is, to go back to.
    return current !== undefined && scaled.groups < groups ? { groups, reason: "" } : scaled;
  }
  const needed = neededFor(input, current);
  const reason = `step ${current.step} needs ${needed}`;
  if (stepInForce(current) >= 0 && scaled.groups > Math.max(needed, groups)) return scaled;
  return { groups: Math.max(needed, groups), reason };
}

function byLoad(input: ManagerInput, revision: string, groups: number): ScaleDecision {
  const { state, observed, now } = input;
  const known = state.revisions[revision];
  if (known === undefined) return { groups, reason: "" };
  const { scale, grownAt, shrunkAt } = known;
  const slots = knownGroups(input, revision).reduce(
    (most, group) => Math.max(most, group.slots),
    0,
  );
  const load = observed.load[revision];
  const measures = { load, grownAt, shrunkAt, now };
  return autoscale({ scale, groups, slots: slots === 0 ? undefined : slots, ...measures });
}

/** Groups of the rollout's revision that it has asked for itself, also those on their way out. */
export function ownGroups(
  input: ManagerInput,
  { request, startedAt }: CurrentRollout,
): KnownGroup[] {
  return knownGroups(input, request.revision).filter(({ requestedAt }) => requestedAt >= startedAt);
}

/**
 * Whether groups without traffic may be drained: not while they are the last of the model that could
 * serve.
 */
export function mayDrainOthers(input: ManagerInput): boolean {
  const { promoted } = input.state;
  if (promoted === undefined) return true;
  return serving(input, promoted).length > 0 || desired(input, promoted).groups === 0;
}
