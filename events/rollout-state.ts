import type { RolloutEvent, Weight } from "./rollout-events.ts";
import type { RolloutRequest, Scale, Timeouts } from "./rollout-request.ts";

/** What the events of `rollout/<model>` add up to. rollout.ts tells the states and their exits. */
export interface RolloutState {
  /** Undefined before the first event. */
  model: string | undefined;
  /** The revision that keeps the traffic, whatever becomes of a rollout. Never more than one. */
  promoted: string | undefined;
  /** The one that was promoted before it. */
  previous: string | undefined;
  /** Every revision that there ever was, by name. */
  revisions: Readonly<Record<string, KnownRevision>>;
  /** Those that were added and are not removed. */
  groups: readonly MemberGroup[];
  /** They add up to 100, or there are none. */
  weights: readonly Weight[];
  /** Grows each time that the weights change. */
  weightsVersion: number;
  /** The rollout under way, until it is promoted or rolled back. */
  current: CurrentRollout | undefined;
  /** The revision that has lost its traffic, until its last group is gone. */
  retiring: Retiring | undefined;
  queue: readonly RolloutRequest[];
  /** Every rolloutId that was ever used. */
  seen: readonly string[];
  past: readonly PastRollout[];
}

/** A revision that the log has had to do with. */
export interface KnownRevision {
  scale: Scale;
  timeouts: Timeouts;
  /** Groups that were ever added, which numbers the next. */
  groupsMade: number;
  /** Groups removed that had failed, one after the other; and when the last was, Unix ms. */
  failures: number;
  lastFailureAt: number;
  /** When a group was added, and when one was released, the last time, Unix ms; 0 before. */
  grownAt: number;
  shrunkAt: number;
}

/** A group of a revision, as the rollout knows it. */
export interface MemberGroup {
  groupId: string;
  revision: string;
  /** It is to be drained. */
  isReleased: boolean;
}

/** The rollout that is under way. */
export interface CurrentRollout {
  request: RolloutRequest;
  phase: "capacity" | "forming" | "canary";
  /** In `canary` the step whose weights are in force; before it, the one that is prepared. */
  step: number;
  startedAt: number;
  /** When the phase began, or was resumed: bake time and timeouts count from here. */
  since: number;
  /** Turns that were asked for since then are measured. */
  watchedSince: number;
  /** Of the step; undefined before it was asked for. */
  capacityAsked: number | undefined;
  paused: { at: number; by: string; reason: string } | undefined;
}

interface Retiring {
  revision: string;
  because: "promoted" | "rolled back" | "withdrawn";
  /** When it lost its traffic. */
  since: number;
  isDraining: boolean;
  isOverdue: boolean;
}

interface PastRollout {
  rolloutId: string;
  revision: string;
  outcome: "promoted" | "rolled back" | "aborted";
  reason: string;
  startedAt: number;
  endedAt: number;
}

/** A model that nothing is known of. */
export const initialState = (): RolloutState => ({
  model: undefined,
  promoted: undefined,
  previous: undefined,
  revisions: {},
  groups: [],
  weights: [],
  weightsVersion: 0,
  current: undefined,
  retiring: undefined,
  queue: [],
  seen: [],
  past: [],
});

/** Where a model stands: the states that rollout.ts tells of. */
export type RolloutStatus =
  | "none"
  | "serving"
  | "capacity"
  | "forming"
  | "canary"
  | "paused"
  | "draining"
  | "rolling back"
  | "out of service";

/** Where the model stands now. */
export function statusOf(state: RolloutState): RolloutStatus {
  const { current, retiring } = state;
  if (current !== undefined) return current.paused === undefined ? current.phase : "paused";
  if (retiring !== undefined)
    return retiring.because === "rolled back" ? "rolling back" : "draining";
  if (state.promoted !== undefined) return "serving";
  return Object.keys(state.revisions).length === 0 ? "none" : "out of service";
}

/** The step whose weights are in force; -1 before the first. */
export function stepInForce({ phase, step }: CurrentRollout): number {
  return phase === "canary" ? step : step - 1;
}

/** When what is waited for is late, Unix ms; undefined where nothing is. */
export function deadlineOf({ current, retiring, revisions }: RolloutState): number | undefined {
  if (current !== undefined) {
    return current.paused === undefined ? current.since + limitOf(current) : undefined;
  }
  if (retiring === undefined || retiring.isOverdue) return undefined;
  const drainMs = revisions[retiring.revision]?.timeouts.drainMs;
  return drainMs === undefined ? undefined : retiring.since + drainMs;
}

/** How long a phase may take, ms. */
export function limitOf({ phase, request }: CurrentRollout): number {
  const { timeouts, bakeMs } = request;
  if (phase === "canary") return bakeMs + timeouts.stepMs;
  return phase === "capacity" ? timeouts.capacityMs : timeouts.formMs;
}

/** The id of a revision's `number`-th group, from 0. An id is used once. */
export const groupIdOf = (revision: string, number: number): string => `${revision}-${number}`;

/** Those groups of a revision that are to stay. */
export function membersOf(state: RolloutState, revision: string): MemberGroup[] {
  return state.groups.filter((group) => group.revision === revision && !group.isReleased);
}

/** The state after the event. */
export function evolve(before: RolloutState, event: RolloutEvent): RolloutState {
  const state = before.model === undefined ? { ...before, model: event.model } : before;
  switch (event.type) {
    case "RevisionAdopted":
      return adopted(state, event);
    case "RolloutRequested": {
      const { request } = event;
      const seen = [...state.seen, request.rolloutId];
      return { ...state, queue: [...state.queue, request], seen };
    }
    case "RolloutStarted":
      return started(state, event);
    case "RolloutWithdrawn": {
      const queue = state.queue.filter(({ rolloutId }) => rolloutId !== event.rolloutId);
      return { ...state, queue };
    }
    case "RequestRejected":
      return { ...state, seen: [...state.seen, event.rolloutId] };
    case "RolloutPromoted":
      return promoted(state, event);
    case "RolloutRolledBack": {
      const { revision, reason, at, cause, weights } = event;
      const outcome = cause === "abort" ? "aborted" : "rolled back";
      const ended = end(state, outcome, reason, at);
      return { ...moveWeights(ended, weights), retiring: retire(revision, "rolled back", at) };
    }
    case "ModelWithdrawn": {
      const { revision, at } = event;
      const withdrawn = { ...state, promoted: undefined, previous: revision };
      return { ...moveWeights(withdrawn, []), retiring: retire(revision, "withdrawn", at) };
    }
    case "RevisionDraining":
      return withRetiring(state, { isDraining: true });
    case "DrainOverdue":
      return withRetiring(state, { isOverdue: true });
    case "RevisionRetired":
      return { ...state, retiring: undefined };
    case "RevisionScaled":
      return scaled(state, event);
    case "GroupAdded":
    case "GroupReleased":
    case "GroupRemoved":
      return withGroup(state, event);
    default:
      return withCurrent(state, event);
  }
}

type EventOf<Type extends RolloutEvent["type"]> = Extract<RolloutEvent, { type: Type }>;

function adopted(state: RolloutState, event: EventOf<"RevisionAdopted">): RolloutState {
  const { revision, scale, timeouts, groupIds, weights, at } = event;
  const numbers = groupIds.map((id) => Number(/-(\d+)$/.exec(id)?.[1] ?? -1));
  const groupsMade = Math.max(groupIds.length, ...numbers.map((number) => number + 1));
  const groups = groupIds.map((groupId) => ({ groupId, revision, isReleased: false }));
  // It has not been idle for longer than it has been known.
  const known = { ...newRevision(scale, timeouts), groupsMade, grownAt: at };
  const revisions = { ...state.revisions, [revision]: known };
  return { ...moveWeights(state, weights), promoted: revision, revisions, groups };
}

function started(state: RolloutState, event: EventOf<"RolloutStarted">): RolloutState {
  const request = state.queue.find(({ rolloutId }) => rolloutId === event.rolloutId);
  if (request === undefined) return state;
  const { revision, scale, timeouts } = request;
  const fresh = newRevision(scale, timeouts);
  const groupsMade = state.revisions[revision]?.groupsMade ?? 0;
  return {
    ...state,
    queue: state.queue.filter((other) => other !== request),
    revisions: { ...state.revisions, [revision]: { ...fresh, groupsMade } },
    // A revision on its way out that is asked for again stays.
    retiring: state.retiring?.revision === revision ? undefined : state.retiring,
    current: {
      request,
      phase: "capacity",
      step: 0,
      startedAt: event.at,
      since: event.at,
      watchedSince: event.at,
      capacityAsked: undefined,
      paused: undefined,
    },
  };
}

function newRevision(scale: Scale, timeouts: Timeouts): KnownRevision {
  const never = { failures: 0, lastFailureAt: 0, grownAt: 0, shrunkAt: 0 };
  return { scale, timeouts, groupsMade: 0, ...never };
}

function scaled(state: RolloutState, event: EventOf<"RevisionScaled">): RolloutState {
  const { revision, scale } = event;
  const known = state.revisions[revision];
  if (known === undefined) return state;
  const { current } = state;
  const isCandidate = current?.request.revision === revision;
  return {
    ...state,
    revisions: { ...state.revisions, [revision]: { ...known, scale } },
    current: isCandidate ? { ...current, request: { ...current.request, scale } } : current,
  };
}

function promoted(state: RolloutState, event: EventOf<"RolloutPromoted">): RolloutState {
  const { revision, from, weights, reason, at } = event;
  return {
    ...moveWeights(end(state, "promoted", reason, at), weights),
    promoted: revision,
    previous: from ?? state.previous,
    retiring: from === null ? undefined : retire(from, "promoted", at),
  };
}

function end(
  state: RolloutState,
  outcome: PastRollout["outcome"],
  reason: string,
  endedAt: number,
): RolloutState {
  if (state.current === undefined) return state;
  const { request, startedAt } = state.current;
  const { rolloutId, revision } = request;
  const past = [...state.past, { rolloutId, revision, outcome, reason, startedAt, endedAt }];
  return { ...state, current: undefined, past };
}

function retire(revision: string, because: Retiring["because"], since: number): Retiring {
  return { revision, because, since, isDraining: false, isOverdue: false };
}

function withRetiring(state: RolloutState, change: Partial<Retiring>): RolloutState {
  if (state.retiring === undefined) return state;
  return { ...state, retiring: { ...state.retiring, ...change } };
}

function moveWeights(state: RolloutState, weights: readonly Weight[]): RolloutState {
  if (areSameWeights(state.weights, weights)) return state;
  return { ...state, weights, weightsVersion: state.weightsVersion + 1 };
}

/** Whether they share out the traffic alike, in whatever order. */
export function areSameWeights(one: readonly Weight[], other: readonly Weight[]): boolean {
  const percentOf = (revision: string) => other.find((weight) => weight.revision === revision);
  return (
    one.length === other.length &&
    one.every(({ revision, percent }) => percentOf(revision)?.percent === percent)
  );
}

function withGroup(
  state: RolloutState,
  event: EventOf<"GroupAdded" | "GroupReleased" | "GroupRemoved">,
): RolloutState {
  const { groupId, revision, at } = event;
  const known = state.revisions[revision];
  if (known === undefined) return state;
  const change = (groups: readonly MemberGroup[], next: Partial<KnownRevision>): RolloutState => {
    const revisions = { ...state.revisions, [revision]: { ...known, ...next } };
    return { ...state, groups, revisions };
  };
  const others = state.groups.filter((group) => group.groupId !== groupId);
  switch (event.type) {
    case "GroupAdded": {
      const groups = [...state.groups, { groupId, revision, isReleased: false }];
      return change(groups, { groupsMade: known.groupsMade + 1, grownAt: at });
    }
    case "GroupReleased": {
      const released = { groupId, revision, isReleased: true };
      const groups = state.groups.map((group) => (group.groupId === groupId ? released : group));
      return change(groups, { shrunkAt: at });
    }
    case "GroupRemoved": {
      if (!event.failed) return change(others, { failures: 0 });
      return change(others, { failures: known.failures + 1, lastFailureAt: at });
    }
  }
}

function withCurrent(
  state: RolloutState,
  event: EventOf<
    | "CapacityAsked"
    | "CapacityReady"
    | "GroupsReady"
    | "CanaryStepped"
    | "GatePassed"
    | "GateFailed"
    | "CanaryBaked"
    | "RolloutPaused"
    | "RolloutResumed"
    | "RolloutTimedOut"
  >,
): RolloutState {
  const { current } = state;
  if (current === undefined) return state;
  const { at } = event;
  switch (event.type) {
    case "CapacityAsked":
      return { ...state, current: { ...current, capacityAsked: event.groups } };
    case "CapacityReady":
      return { ...state, current: { ...current, phase: "forming", since: at } };
    case "CanaryStepped": {
      const { step, weights } = event;
      const stepped = { ...current, phase: "canary", step, since: at, watchedSince: at } as const;
      return { ...moveWeights(state, weights), current: stepped };
    }
    case "CanaryBaked": {
      if (event.step === current.request.steps.length - 1) return state;
      const next = { phase: "capacity", step: event.step + 1, since: at } as const;
      return { ...state, current: { ...current, ...next, capacityAsked: undefined } };
    }
    case "RolloutPaused": {
      const { by, reason } = event;
      return { ...state, current: { ...current, paused: { at, by, reason } } };
    }
    case "RolloutResumed":
      return {
        ...state,
        current: { ...current, paused: undefined, since: at, watchedSince: at },
      };
    case "GroupsReady":
    case "GatePassed":
    case "GateFailed":
    case "RolloutTimedOut":
      return state;
  }
}
