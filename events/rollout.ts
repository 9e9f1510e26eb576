import type { Decider } from "./decider.ts";
import { AxonError } from "./errors.ts";
import { describeFailures, judge, type Measured } from "./gates.ts";
import type { RolloutEvent, Weight } from "./rollout-events.ts";
import { changeGroups, scaleRevision, wake } from "./rollout-groups.ts";
import type { RolloutRequest, Scale, ScaleChange, Timeouts } from "./rollout-request.ts";
import {
  type CurrentRollout,
  deadlineOf,
  evolve,
  initialState,
  limitOf,
  type RolloutState,
  stepInForce,
} from "./rollout-state.ts";

/**
 * The rollout: the revisions of one model, and how the traffic moves from one to the next.
 *
 *   none         → serving        a revision that serves already is adopted.
 *                → capacity       a rollout is asked for: the model's first.
 *   serving      → capacity       a rollout is asked for, or begins from the queue; or a roll back to the
 *                                 revision that was promoted before.
 *   capacity     → forming        there are machines for the groups of the next step.
 *   forming      → canary         the groups of the next step are ready: the revision gets its share.
 *                → serving        the same, where no revision served: it is promoted at once, since there is
 *                                 nothing to compare it to, and nothing to go back to.
 *   canary       → capacity       the step has baked (`bakeMs`) and its gates have passed: the next step.
 *                → draining       the same of the last step: the revision keeps all traffic; the old one has
 *                                 none. So from capacity, forming and paused when an operator promotes it
 *                                 after its first step.
 *   capacity, forming, canary → rolling back   a gate fails; a phase takes too long (`capacityMs`, `formMs`,
 *                                 `bakeMs` + `stepMs`); a group fails, or is lost too often; an operator
 *                                 aborts or rolls back. The old revision has all traffic again.
 *   draining     → serving        the old revision's turns have ended and its groups are gone. A revision
 *                                 that has turns after `drainMs` is overdue: it takes no new ones, and its
 *                                 groups still end those that they run.
 *                → capacity       an operator rolls back: the old revision's groups that are left stay.
 *   rolling back → serving        the same of the new revision; → out of service where no other served.
 *   capacity, forming, canary → paused → the same   by an operator, or by a gate that fails where it is not to
 *                                 roll back. Nothing moves on and nothing times out; a gate that fails, and a
 *                                 group, still roll back. When it is resumed the phase begins anew, the
 *                                 bake and the measuring included.
 *   serving      → draining → out of service   an operator takes the model out of service.
 *
 * `draining` and `rolling back` wait for the turns, whose number only the manager knows. There is one
 * rollout at a time; what is asked for meanwhile is refused or queued, as the request says. The next
 * begins when the last group of the one before is gone.
 *
 * What the manager reports names the rollout and the step that it saw: late, it changes nothing.
 */

type Stamp = { at: number; model: string };
/** Without a `rolloutId`: the one that is under way. */
type Operator = Stamp & { by: string; reason: string; rolloutId?: string | undefined };
type OfStep = Stamp & { rolloutId: string; step: number };
type OfGroup = Stamp & { groupId: string; revision: string; reason: string };

/** `at` is Unix ms. What operators ask has `by` and `reason`; the manager sends the rest. */
export type RolloutCommand =
  | ({ type: "StartRollout"; request: RolloutRequest } & Stamp)
  | ({ type: "PauseRollout" } & Operator)
  | ({ type: "ResumeRollout" } & Operator)
  | ({ type: "PromoteNow" } & Operator)
  /** Gives up a rollout that is not promoted yet, or takes it out of the queue. */
  | ({ type: "AbortRollout" } & Operator)
  /**
   * Before the promotion, gives up the rollout; after it, begins the one with the name `returnId`, to the
   * revision that was promoted before.
   */
  | ({ type: "RollBack"; returnId: string } & Operator)
  /** Takes the model out of service. The revision is named so that it is not another by mistake. */
  | ({ type: "RetireRevision"; revision: string; by: string; reason: string } & Stamp)
  | ({
      type: "AdoptRevision";
      revision: string;
      scale: Scale;
      timeouts: Timeouts;
      groupIds: string[];
      by: string;
    } & Stamp)
  | ({ type: "RejectRequest"; rolloutId: string; source: string; reason: string } & Stamp)
  | ({ type: "ReportCapacityAsked"; groups: number } & OfStep)
  | ({ type: "ReportCapacityReady" } & OfStep)
  | ({ type: "ReportGroupsReady"; groupIds: string[] } & OfStep)
  /** What the step in force has shown so far. */
  | ({ type: "ReportMeasured"; measured: Measured; baseline: Measured | null } & OfStep)
  /** The rollout cannot succeed. */
  | ({ type: "ReportProblem"; rolloutId: string; reason: string } & Stamp)
  | ({ type: "CheckTimeouts" } & Stamp)
  | ({ type: "DrainRevision"; revision: string; reason: string } & Stamp)
  | ({ type: "ReportRetired"; revision: string } & Stamp)
  /** The first turn after a rest is there: a group is to form now, and not with the next tick. */
  | ({ type: "WakeRevision"; revision: string } & Stamp)
  /** Without a revision: the one that is promoted. What `change` leaves out stays as it is. */
  | ({
      type: "ScaleRevision";
      revision: string | undefined;
      change: ScaleChange;
      by: string;
      reason: string;
    } & Stamp)
  | ({ type: "AddGroup" } & OfGroup)
  | ({ type: "ReleaseGroup" } & OfGroup)
  | ({ type: "RemoveGroup"; failed: boolean } & OfGroup);

/** The commands of these types. */
export type CommandOf<Type extends RolloutCommand["type"]> = Extract<
  RolloutCommand,
  { type: Type }
>;

/** The decider of a model. Its states are told above. */
export const rollout: Decider<RolloutCommand, RolloutEvent, RolloutState> = {
  initialState,
  decide,
  evolve,
};

const mostQueued = 10;
const manager = "manager";

function decide(command: RolloutCommand, state: RolloutState): RolloutEvent[] {
  const events = decideAlone(command, state);
  if (events.length === 0) return [];
  return [...events, ...startNext(command, events.reduce(evolve, state))];
}

function decideAlone(command: RolloutCommand, state: RolloutState): RolloutEvent[] {
  switch (command.type) {
    case "StartRollout":
      return start(command, state);
    case "PauseRollout":
    case "ResumeRollout":
      return pauseOrResume(command, state);
    case "PromoteNow":
      return promoteNow(command, state);
    case "AbortRollout":
      return abort(command, state);
    case "RollBack":
      return rollBackOrReturn(command, state);
    case "RetireRevision":
      return withdraw(command, state);
    case "AdoptRevision":
      return adopt(command, state);
    case "RejectRequest": {
      const { rolloutId, source, reason } = command;
      if (state.seen.includes(rolloutId)) return [];
      return [{ type: "RequestRejected", ...stampOf(command), rolloutId, source, reason }];
    }
    case "ReportCapacityAsked":
    case "ReportCapacityReady":
    case "ReportGroupsReady":
      return prepare(command, state);
    case "ReportMeasured":
      return judgeStep(command, state);
    case "ReportProblem": {
      const { current } = state;
      if (current?.request.rolloutId !== command.rolloutId) return [];
      return rollBack(command, state, current, "problem", manager, command.reason);
    }
    case "CheckTimeouts":
      return timeOut(command, state);
    case "DrainRevision":
    case "ReportRetired":
      return retireFurther(command, state);
    case "ScaleRevision":
      return scaleRevision(command, state);
    case "WakeRevision":
      return wake(command, state);
    case "AddGroup":
    case "ReleaseGroup":
    case "RemoveGroup":
      return changeGroups(command, state);
  }
}

const stampOf = ({ at, model }: Stamp) => ({ version: 1, at, model }) as const;

const isBusy = ({ current, retiring }: RolloutState) =>
  current !== undefined || retiring !== undefined;

/** Begins the next rollout of the queue, where nothing is under way any more. */
function startNext(stamp: Stamp, state: RolloutState): RolloutEvent[] {
  const next = state.queue[0];
  if (next === undefined || isBusy(state)) return [];
  const { rolloutId, revision } = next;
  if (revision !== state.promoted) return [startedEvent(stamp, state, next)];
  const reason = `${revision} is promoted already`;
  const fact = { ...stampOf(stamp), rolloutId, by: manager, reason };
  const withdrawn: RolloutEvent = { type: "RolloutWithdrawn", ...fact };
  return [withdrawn, ...startNext(stamp, evolve(state, withdrawn))];
}

function startedEvent(
  stamp: Stamp,
  state: RolloutState,
  { rolloutId, revision }: RolloutRequest,
): RolloutEvent {
  const from = state.promoted ?? null;
  return { type: "RolloutStarted", ...stampOf(stamp), rolloutId, revision, from };
}

function start(command: CommandOf<"StartRollout">, state: RolloutState): RolloutEvent[] {
  const { request } = command;
  if (state.seen.includes(request.rolloutId)) return [];
  if (request.model !== command.model) {
    throw new AxonError("invalid_field", `model: must be ${command.model}, as in the stream.`, {
      field: "model",
    });
  }
  if (!isBusy(state) && request.revision === state.promoted) {
    throw refused(`${request.revision} serves ${command.model} already.`, "revision");
  }
  if (isBusy(state) && request.whenBusy === "refuse") {
    const what = state.current?.request.rolloutId ?? `the retiring of ${state.retiring?.revision}`;
    throw busy(`${what} of ${command.model} is under way`);
  }
  if (state.queue.length >= mostQueued) {
    throw busy(`${mostQueued} rollouts of ${command.model} wait, which is the most`);
  }
  return [{ type: "RolloutRequested", ...stampOf(command), request }];
}

/** The rollout that an operator means. */
function currentOf(command: Operator, { current }: RolloutState): CurrentRollout {
  const { rolloutId = current?.request.rolloutId } = command;
  if (current !== undefined && current.request.rolloutId === rolloutId) return current;
  const which = rolloutId === undefined ? "No rollout" : `No rollout ${rolloutId}`;
  throw new AxonError("rollout_not_found", `${which} of ${command.model} is under way.`, {
    field: "rolloutId",
  });
}

function pauseOrResume(
  command: CommandOf<"PauseRollout" | "ResumeRollout">,
  state: RolloutState,
): RolloutEvent[] {
  const { request, paused } = currentOf(command, state);
  const { by, reason } = command;
  const isPause = command.type === "PauseRollout";
  if ((paused !== undefined) === isPause) return [];
  const fact = { ...stampOf(command), rolloutId: request.rolloutId, by, reason };
  return [{ type: isPause ? "RolloutPaused" : "RolloutResumed", ...fact }];
}

function promoteNow(command: CommandOf<"PromoteNow">, state: RolloutState): RolloutEvent[] {
  if (state.past.some((past) => isPast(past, command, "promoted"))) return [];
  const current = currentOf(command, state);
  if (stepInForce(current) < 0) {
    const { revision } = current.request;
    throw refused(
      `${revision} has no group that is ready yet. Wait for its first step.`,
      undefined,
    );
  }
  return [promotion(command, state, current, command.by, command.reason)];
}

const isPast = (
  past: { rolloutId: string; outcome: string },
  { rolloutId }: { rolloutId?: string | undefined },
  outcome: string,
) => past.rolloutId === rolloutId && past.outcome === outcome;

function promotion(
  stamp: Stamp,
  state: RolloutState,
  { request }: CurrentRollout,
  by: string,
  reason: string,
): RolloutEvent {
  const { rolloutId, revision } = request;
  const weights: Weight[] = [{ revision, percent: 100 }];
  const from = state.promoted ?? null;
  const fact = { ...stampOf(stamp), rolloutId, revision, from, weights, by, reason };
  return { type: "RolloutPromoted", ...fact };
}

function rollBack(
  stamp: Stamp,
  state: RolloutState,
  { request }: CurrentRollout,
  cause: "gate" | "timeout" | "problem" | "operator" | "abort",
  by: string,
  reason: string,
): RolloutEvent[] {
  const { rolloutId, revision } = request;
  const { promoted } = state;
  const weights: Weight[] = promoted === undefined ? [] : [{ revision: promoted, percent: 100 }];
  const fact = { ...stampOf(stamp), rolloutId, revision, cause, weights, by, reason };
  return [{ type: "RolloutRolledBack", ...fact }];
}

function abort(command: CommandOf<"AbortRollout">, state: RolloutState): RolloutEvent[] {
  const { by, reason, rolloutId } = command;
  if (state.past.some((past) => isPast(past, command, "aborted"))) return [];
  if (state.queue.some((request) => request.rolloutId === rolloutId)) {
    const fact = { ...stampOf(command), rolloutId: rolloutId ?? "", by, reason };
    return [{ type: "RolloutWithdrawn", ...fact }];
  }
  return rollBack(command, state, currentOf(command, state), "abort", by, reason);
}

function rollBackOrReturn(command: CommandOf<"RollBack">, state: RolloutState): RolloutEvent[] {
  const { by, reason, returnId } = command;
  if (state.seen.includes(returnId)) return [];
  if (state.past.some((past) => isPast(past, command, "rolled back"))) return [];
  if (state.current !== undefined) {
    return rollBack(command, state, currentOf(command, state), "operator", by, reason);
  }
  // What is asked for is being done.
  if (state.retiring?.because === "rolled back") return [];
  const { previous } = state;
  const known = previous === undefined ? undefined : state.revisions[previous];
  const past = state.past.findLast(({ outcome }) => outcome === "promoted");
  const isOther = command.rolloutId !== undefined && command.rolloutId !== past?.rolloutId;
  if (previous === undefined || known === undefined || isOther) {
    const which = isOther
      ? `${command.rolloutId} was not the last to be promoted`
      : "none was before";
    throw new AxonError("rollout_not_found", `There is nothing to roll back to: ${which}.`, {
      field: "rolloutId",
    });
  }
  const request: RolloutRequest = {
    ...{ rolloutId: returnId, model: command.model, revision: previous, whenBusy: "refuse" },
    // It has served before: as soon as it is there it gets all of the traffic.
    ...{ steps: [100], bakeMs: 0, automaticRollback: false, maxGroupLosses: 1_000 },
    gates: {
      ...{ minimumTurns: 0, errorRate: null, firstTokenP95Ms: null, interTokenP95Ms: null },
      slowdown: null,
    },
    ...{ timeouts: known.timeouts, scale: known.scale, by, reason },
  };
  const requested: RolloutEvent = { type: "RolloutRequested", ...stampOf(command), request };
  return [requested, startedEvent(command, state, request)];
}

function withdraw(command: CommandOf<"RetireRevision">, state: RolloutState): RolloutEvent[] {
  const { revision, by, reason, model } = command;
  if (state.revisions[revision] === undefined) {
    throw new AxonError("rollout_not_found", `${model} has no revision ${revision}.`, {
      field: "revision",
    });
  }
  if (state.current !== undefined) {
    throw busy(`${state.current.request.rolloutId} of ${model} is under way`);
  }
  // It is being retired, or was.
  if (state.promoted !== revision) return [];
  if (state.retiring !== undefined) {
    throw busy(`the retiring of ${state.retiring.revision} is under way`);
  }
  return [{ type: "ModelWithdrawn", ...stampOf(command), revision, by, reason }];
}

function adopt(command: CommandOf<"AdoptRevision">, state: RolloutState): RolloutEvent[] {
  // The log knows better than a deployment that was written before it.
  if (Object.keys(state.revisions).length > 0) return [];
  const { type: _, at: _at, model: _model, ...facts } = command;
  const weights: Weight[] = [{ revision: command.revision, percent: 100 }];
  return [{ type: "RevisionAdopted", ...stampOf(command), ...facts, weights }];
}

/** The way to the next step: machines, groups, and the traffic that they get. */
function prepare(
  command: CommandOf<"ReportCapacityAsked" | "ReportCapacityReady" | "ReportGroupsReady">,
  state: RolloutState,
): RolloutEvent[] {
  const { current } = state;
  if (current === undefined || current.paused !== undefined) return [];
  const { phase, request, capacityAsked } = current;
  const { rolloutId, step } = command;
  if (rolloutId !== request.rolloutId || step !== current.step) return [];
  const fact = { ...stampOf(command), rolloutId, step };
  if (command.type === "ReportCapacityAsked") {
    if (phase !== "capacity" || capacityAsked === command.groups) return [];
    return [{ type: "CapacityAsked", ...fact, groups: command.groups }];
  }
  if (command.type === "ReportCapacityReady") {
    return phase === "capacity" ? [{ type: "CapacityReady", ...fact }] : [];
  }
  if (phase !== "forming" || command.groupIds.length === 0) return [];
  const ready: RolloutEvent = { type: "GroupsReady", ...fact, groupIds: command.groupIds };
  const { promoted } = state;
  if (promoted === undefined) {
    const reason = "no revision served the model before";
    return [ready, promotion(command, state, current, manager, reason)];
  }
  const percent = request.steps[step] ?? 100;
  const weights: Weight[] = [
    ...(percent < 100 ? [{ revision: promoted, percent: 100 - percent }] : []),
    { revision: request.revision, percent },
  ];
  return [ready, { type: "CanaryStepped", ...fact, percent, weights }];
}

function judgeStep(command: CommandOf<"ReportMeasured">, state: RolloutState): RolloutEvent[] {
  const { current } = state;
  const { at, rolloutId, step, measured, baseline } = command;
  if (current === undefined || current.request.rolloutId !== rolloutId) return [];
  if (step < 0 || step !== stepInForce(current)) return [];
  const { request, phase, paused, watchedSince } = current;
  const verdict = judge(request.gates, measured, baseline);
  const fact = { ...stampOf(command), rolloutId, step };
  if (verdict.result === "failed") {
    const { failures } = verdict;
    const failed: RolloutEvent = { type: "GateFailed", ...fact, measured, baseline, failures };
    const reason = describeFailures(failures);
    if (request.automaticRollback) {
      return [failed, ...rollBack(command, state, current, "gate", manager, reason)];
    }
    if (paused !== undefined) return [];
    const pause = { ...stampOf(command), rolloutId, by: manager, reason };
    return [failed, { type: "RolloutPaused", ...pause }];
  }
  const isDue = phase === "canary" && paused === undefined && at >= watchedSince + request.bakeMs;
  if (verdict.result === "open" || !isDue) return [];
  const percent = request.steps[step] ?? 100;
  const bakedMs = Math.max(0, at - watchedSince);
  const passed: RolloutEvent[] = [
    { type: "GatePassed", ...fact, measured, baseline },
    { type: "CanaryBaked", ...fact, percent, bakedMs },
  ];
  if (step < request.steps.length - 1) return passed;
  const reason = "every step has baked and passed its gates";
  return [...passed, promotion(command, state, current, manager, reason)];
}

function timeOut(command: CommandOf<"CheckTimeouts">, state: RolloutState): RolloutEvent[] {
  const deadline = deadlineOf(state);
  if (deadline === undefined || command.at < deadline) return [];
  const { current, retiring } = state;
  if (current !== undefined) {
    const { rolloutId } = current.request;
    const { phase } = current;
    const limitMs = limitOf(current);
    const late = { ...stampOf(command), rolloutId, phase, limitMs };
    const reason = `${phase} of step ${current.step} took longer than ${limitMs} ms`;
    const back = rollBack(command, state, current, "timeout", manager, reason);
    return [{ type: "RolloutTimedOut", ...late }, ...back];
  }
  if (retiring === undefined) return [];
  const { revision } = retiring;
  const limitMs = deadline - retiring.since;
  return [{ type: "DrainOverdue", ...stampOf(command), revision, limitMs }];
}

function retireFurther(
  command: CommandOf<"DrainRevision" | "ReportRetired">,
  state: RolloutState,
): RolloutEvent[] {
  const { retiring, groups } = state;
  const { revision } = command;
  if (retiring?.revision !== revision) return [];
  if (command.type === "DrainRevision") {
    if (retiring.isDraining) return [];
    const { reason } = command;
    return [{ type: "RevisionDraining", ...stampOf(command), revision, reason }];
  }
  if (!retiring.isDraining || groups.some((group) => group.revision === revision)) return [];
  return [{ type: "RevisionRetired", ...stampOf(command), revision }];
}

function busy(what: string): AxonError {
  return new AxonError("rollout_busy", `${what}. Wait for it, or ask to be queued.`, {
    field: "whenBusy",
  });
}

function refused(message: string, field: string | undefined): AxonError {
  return new AxonError("rollout_refused", message, field === undefined ? {} : { field });
}
