import type { ClusterCommand, ObservedGroup } from "./cluster-port.ts";
import { fold } from "./decider.ts";
import { formDeadline, type GroupCommand, type GroupState, group } from "./group.ts";
import { type RolloutCommand, rollout } from "./rollout.ts";
import {
  deadlineOf,
  groupIdOf,
  type KnownRevision,
  type MemberGroup,
  type RolloutState,
  stepInForce,
} from "./rollout-state.ts";
import {
  desired,
  isInForce,
  living,
  type ManagerInput,
  mayDrainOthers,
  neededFor,
  ownGroups,
  pulse,
  seen,
  serving,
} from "./rollout-view.ts";

/**
 * The rollout manager: compares what the log wants of a model with what the cluster shows, and says what is
 * to be recorded and what is to be done. It remembers nothing. Whatever was lost, doubled, late or
 * changed by hand shows in the next comparison; where all is as it should be it says nothing.
 *
 *   the log says                  and is seen                         so
 *   fewer groups than desired                                         AddGroup, then RequestGroup
 *   more groups than desired                                          ReleaseGroup, then DrainGroup
 *   group forming                 not in the cluster                  CreateGroup
 *                                 a heartbeat that takes turns        ReportReady
 *                                 nothing, until `formMs`             CheckForming: it fails
 *   group ready                   silent for 10 s                     ReportLost
 *   group draining or failed      it takes turns, or might            DrainGroup, of the cluster
 *                                 it drains, and runs none            DeleteGroup
 *                                 neither objects nor heartbeat       ReportGone, then RemoveGroup
 *   nothing of a group            it is there                         DrainGroup and DeleteGroup likewise
 *   weights                       others are in force                 SetWeights
 *   groups, with or without       machines for another number         EnsureCapacity
 *
 * What is to be recorded is decided on the versions that were read: the caller appends after exactly
 * these, and drops the rest where somebody else has written meanwhile, or ten seconds after it has observed:
 * a group that served then may be gone. The next tick sees what is so.
 * Log commands come before those to the cluster. A caller that has recorded something may ask again at
 * once; the effects follow from the new state.
 */
export interface ManagerActions {
  /** For the model's stream, in this order. */
  rollout: RolloutCommand[];
  /** Each for its group's stream. */
  groups: GroupCommand[];
  cluster: ClusterCommand[];
}

/** What is to be recorded and done now: nothing where all is as it should be. */
export function manage(input: ManagerInput): ManagerActions {
  const { state } = input;
  const { model } = state;
  if (model === undefined) return { rollout: [], groups: [], cluster: [] };
  const commands = [...progress(input, model), ...membership(input, model)];
  return {
    rollout: withEffect(commands, state),
    groups: state.groups.flatMap((member) => lifeOf(input, model, member)),
    cluster: clusterCommands(input, model),
  };
}

/** What the port is to measure: turns of these revisions that were asked for since then, Unix ms. */
export function measurementsOf({ current, promoted }: RolloutState): {
  revision: string;
  since: number;
}[] {
  if (current === undefined || stepInForce(current) < 0) return [];
  const since = current.watchedSince;
  return [current.request.revision, promoted].flatMap((revision) =>
    revision === undefined ? [] : { revision, since },
  );
}

/** Leaves out commands that the decider has nothing to say to. */
function withEffect(commands: readonly RolloutCommand[], state: RolloutState): RolloutCommand[] {
  let now = state;
  return commands.filter((command) => {
    const events = rollout.decide(command, now);
    now = events.reduce(rollout.evolve, now);
    return events.length > 0;
  });
}

/** What the rollout has to be told. */
function progress(input: ManagerInput, model: string): RolloutCommand[] {
  const { state, now } = input;
  const stamp = { at: now, model };
  const deadline = deadlineOf(state);
  const late: RolloutCommand[] =
    deadline !== undefined && now >= deadline ? [{ type: "CheckTimeouts", ...stamp }] : [];
  if (state.current === undefined) return [...late, ...retirement(input, model)];
  return [...troubles(input, stamp), ...steps(input, stamp), ...measures(input, stamp), ...late];
}

type Stamp = { at: number; model: string };

function troubles(input: ManagerInput, stamp: Stamp): RolloutCommand[] {
  const { current } = input.state;
  if (current === undefined) return [];
  const { rolloutId, revision, maxGroupLosses } = current.request;
  const problem = (reason: string): RolloutCommand[] => [
    { type: "ReportProblem", ...stamp, rolloutId, reason },
  ];
  const own = ownGroups(input, current);
  const failed = own.find(({ hasFailed }) => hasFailed);
  if (failed !== undefined) return problem(`group ${failed.groupId} failed: ${failed.reason}`);
  const losses = own.reduce((sum, group) => sum + group.losses, 0);
  if (losses > maxGroupLosses) {
    return problem(`its groups were lost ${losses} times; ${maxGroupLosses} is the most`);
  }
  const failure = input.observed.capacity[revision]?.failure;
  if (failure === undefined || current.phase !== "capacity") return [];
  return problem(`there are no machines: ${failure}`);
}

function steps(input: ManagerInput, stamp: Stamp): RolloutCommand[] {
  const { current } = input.state;
  if (current === undefined) return [];
  const { request, step, phase, capacityAsked } = current;
  const { rolloutId, revision } = request;
  const groups = neededFor(input, current);
  const ofStep = { ...stamp, rolloutId, step };
  if (phase === "capacity") {
    if (capacityAsked !== groups) return [{ type: "ReportCapacityAsked", ...ofStep, groups }];
    const there = input.observed.capacity[revision]?.there ?? 0;
    return there >= groups ? [{ type: "ReportCapacityReady", ...ofStep }] : [];
  }
  const groupIds = serving(input, revision);
  if (phase !== "forming" || groupIds.length < groups) return [];
  return [{ type: "ReportGroupsReady", ...ofStep, groupIds }];
}

function measures(input: ManagerInput, stamp: Stamp): RolloutCommand[] {
  const { state, observed } = input;
  const { current, promoted } = state;
  if (current === undefined) return [];
  const measuredOf = (revision: string | undefined) => {
    const found = revision === undefined ? undefined : observed.measured[revision];
    // What was measured for an earlier step says nothing about this one.
    if (found === undefined || found.since !== current.watchedSince) return undefined;
    const { since: _, ...measured } = found;
    return measured;
  };
  const measured = measuredOf(current.request.revision);
  if (measured === undefined) return [];
  const { rolloutId } = current.request;
  const facts = { rolloutId, step: stepInForce(current), measured };
  const baseline = measuredOf(promoted) ?? null;
  return [{ type: "ReportMeasured", ...stamp, ...facts, baseline }];
}

/** A revision without traffic is drained when its turns have ended, and retired when its groups are gone. */
function retirement(input: ManagerInput, model: string): RolloutCommand[] {
  const { state, observed, now } = input;
  const { retiring, groups, revisions } = state;
  if (retiring === undefined) return [];
  const { revision, since, isDraining, isOverdue } = retiring;
  const stamp = { at: now, model, revision };
  const hasNoTurns = observed.load[revision]?.openTurns === 0;
  if (isDraining) {
    const isGone = !groups.some((member) => member.revision === revision);
    return isGone && (hasNoTurns || isOverdue) ? [{ type: "ReportRetired", ...stamp }] : [];
  }
  const settleMs = revisions[revision]?.timeouts.settleMs ?? 0;
  const movedAt = Math.max(since, observed.weights?.setAt ?? 0);
  const isSettled = isInForce(input) && observed.at >= movedAt + settleMs;
  if (!mayDrainOthers(input) || !(isOverdue || (hasNoTurns && isSettled))) return [];
  const reason = hasNoTurns ? "its turns have ended" : "its time to end its turns is over";
  return [{ type: "DrainRevision", ...stamp, reason }];
}

/** The first failed group is followed by another after this, the next after twice as long, and so on. */
const retryMs = 30_000;
const mostRetryMs = 30 * 60_000;

function mayAdd({ state, now }: ManagerInput, revision: string, known: KnownRevision): boolean {
  const { current } = state;
  // The machines come first; what serves already may grow meanwhile.
  const isCandidate = current?.request.revision === revision;
  if (isCandidate && current.phase === "capacity") return false;
  if (known.failures === 0) return true;
  const waitMs = Math.min(mostRetryMs, retryMs * 2 ** (known.failures - 1));
  return now >= known.lastFailureAt + waitMs;
}

/** Groups that are to be added, released, or forgotten. */
function membership(input: ManagerInput, model: string): RolloutCommand[] {
  const { state, groups } = input;
  const stamp = { at: input.now, model };
  const gone: RolloutCommand[] = state.groups.flatMap(({ groupId, revision }) => {
    const known = groups.get(groupId);
    if (known?.status !== "gone") return [];
    const reason = known.reason ?? "it is gone";
    return [{ type: "RemoveGroup", ...stamp, groupId, revision, reason, failed: known.hasFailed }];
  });
  const changes = Object.entries(state.revisions).flatMap(([revision, known]): RolloutCommand[] => {
    const there = living(input, revision).length;
    const { groups: wanted, reason } = desired(input, revision);
    if (wanted < there) {
      return toRelease(input, revision, there - wanted).map((groupId) => ({
        ...{ type: "ReleaseGroup", ...stamp, groupId, revision, reason },
      }));
    }
    const missing = mayAdd(input, revision, known) ? wanted - there : 0;
    return Array.from({ length: missing }, (_, i) => {
      const groupId = groupIdOf(revision, known.groupsMade + i);
      return { type: "AddGroup", ...stamp, groupId, revision, reason };
    });
  });
  return [...gone, ...changes];
}

/** Those that are missed least: first what does not serve, then what runs fewest turns, then the newest. */
function toRelease(input: ManagerInput, revision: string, count: number): string[] {
  const { state } = input;
  const ready = serving(input, revision);
  const cost = (groupId: string) =>
    ready.includes(groupId) ? 1 + (pulse(input, groupId)?.running ?? 0) : 0;
  const inOrder = living(input, revision)
    .reverse()
    .sort((one, other) => cost(one) - cost(other));
  const victims = inOrder.slice(0, count);
  if (revision !== state.promoted) return mayDrainOthers(input) ? victims : [];
  const isRest = count === inOrder.length;
  const isOneLeft = ready.some((groupId) => !victims.includes(groupId));
  return isRest || isOneLeft ? victims : [];
}

/** What a group's own stream has to be told. */
function lifeOf(input: ManagerInput, model: string, member: MemberGroup): GroupCommand[] {
  const { groups, state, observed, now } = input;
  const { groupId, revision, isReleased } = member;
  const stamp = { at: now, groupId };
  const known: GroupState = groups.get(groupId) ?? fold(group, []);
  if (known.status === "none") {
    const formMs = state.revisions[revision]?.timeouts.formMs ?? 0;
    return [{ type: "RequestGroup", ...stamp, model, revision, formMs }];
  }
  const there = seen(input, groupId);
  const heartbeat = pulse(input, groupId);
  const { epoch } = known;
  switch (known.status) {
    case "forming": {
      if (isReleased)
        return [{ type: "DrainGroup", ...stamp, reason: "it is not wanted any more" }];
      if (heartbeat?.isAccepting && heartbeat.epoch >= epoch) {
        const { ranks, slots } = heartbeat;
        return [{ type: "ReportReady", ...stamp, epoch: heartbeat.epoch, ranks, slots }];
      }
      if (there?.failure !== undefined) {
        return [{ type: "ReportFailed", ...stamp, reason: there.failure }];
      }
      return now >= formDeadline(known) ? [{ type: "CheckForming", ...stamp }] : [];
    }
    case "ready": {
      if (isReleased)
        return [{ type: "DrainGroup", ...stamp, reason: "it is not wanted any more" }];
      if (heartbeat === undefined) {
        const lastAt = there?.heartbeat?.at;
        const reason =
          lastAt === undefined ? "it is not heard of" : `silent for ${observed.at - lastAt} ms`;
        return [{ type: "ReportLost", ...stamp, epoch, reason }];
      }
      if (heartbeat.epoch <= epoch) return [];
      const { ranks, slots } = heartbeat;
      return [{ type: "ReportReady", ...stamp, epoch: heartbeat.epoch, ranks, slots }];
    }
    case "draining":
    case "failed":
      return there?.exists || heartbeat !== undefined ? [] : [{ type: "ReportGone", ...stamp }];
    case "gone":
      return [];
  }
}

function clusterCommands(input: ManagerInput, model: string): ClusterCommand[] {
  return [
    ...weights(input, model),
    ...capacity(input, model),
    ...creations(input, model),
    ...input.observed.groups.flatMap((there) => ending(input, model, there)),
  ];
}

function weights(input: ManagerInput, model: string): ClusterCommand[] {
  const { state, observed } = input;
  const there = observed.weights?.version ?? 0;
  if (isInForce(input) && there >= state.weightsVersion) return [];
  if (observed.weights === undefined && state.weightsVersion === 0) return [];
  // A version above the log's was written by hand: the next one has to be let in nevertheless.
  const version = Math.max(state.weightsVersion, there);
  return [{ type: "SetWeights", model, weights: state.weights, version }];
}

function capacity(input: ManagerInput, model: string): ClusterCommand[] {
  const { state, observed, version } = input;
  const isMember = (groupId: string) => state.groups.some((member) => member.groupId === groupId);
  const revisions = new Set([...Object.keys(state.revisions), ...Object.keys(observed.capacity)]);
  return [...revisions].flatMap((revision) => {
    const members = state.groups.filter((member) => member.revision === revision).length;
    const strays = observed.groups.filter(
      ({ exists, groupId, ...group }) =>
        exists && group.revision === revision && !isMember(groupId),
    ).length;
    const groups = Math.max(desired(input, revision).groups, members + strays);
    if (groups === (observed.capacity[revision]?.asked ?? 0)) return [];
    return [{ type: "EnsureCapacity", model, revision, groups, basis: version }];
  });
}

function creations(input: ManagerInput, model: string): ClusterCommand[] {
  return input.state.groups.flatMap(({ groupId, revision, isReleased }) => {
    const isForming = input.groups.get(groupId)?.status === "forming";
    if (!isForming || isReleased || seen(input, groupId)?.exists) return [];
    return [{ type: "CreateGroup", model, revision, groupId }];
  });
}

/**
 * The end of a group that is not wanted: it takes no more turns, runs out, and only then is deleted. One
 * that is silent is told all the same, since it might just be starting.
 */
function ending(input: ManagerInput, model: string, there: ObservedGroup): ClusterCommand[] {
  const { groupId, revision, exists, isDraining } = there;
  const isMember = input.state.groups.some((member) => member.groupId === groupId);
  const status = input.groups.get(groupId)?.status ?? "none";
  if (isMember && ["none", "forming", "ready"].includes(status)) return [];
  const heartbeat = pulse(input, groupId);
  const names = { model, revision, groupId };
  if (!exists && heartbeat === undefined) return [];
  if (!isDraining || heartbeat?.isAccepting) return [{ type: "DrainGroup", ...names }];
  if (!exists || (heartbeat !== undefined && heartbeat.running > 0)) return [];
  return [{ type: "DeleteGroup", ...names }];
}
