import { fold } from "../../../events/decider.ts";
import type { Measured } from "../../../events/gates.ts";
import { type RolloutCommand, rollout } from "../../../events/rollout.ts";
import type { RolloutEvent } from "../../../events/rollout-events.ts";
import {
  parseRolloutRequest,
  type RolloutRequest,
  scaleSchema,
  timeoutsSchema,
} from "../../../events/rollout-request.ts";
import type { RolloutState, RolloutStatus } from "../../../events/rollout-state.ts";

/** One rollout of guide-2 over guide-1, told by its commands, up to each of the states. */

export const model = "guide";
export const timeouts = timeoutsSchema.parse({
  ...{ capacityMs: 1_000, formMs: 2_000, stepMs: 3_000, drainMs: 4_000, settleMs: 1_000 },
});
export const scale = scaleSchema.parse({ min: 1, max: 2 });

const requestOf = (change: Partial<RolloutRequest> = {}): RolloutRequest =>
  parseRolloutRequest({
    ...{ rolloutId: "r2", model, revision: "guide-2", steps: [10, 100], bakeMs: 500 },
    ...{ gates: { minimumTurns: 10 }, timeouts, scale, by: "ada", reason: "it is better" },
    ...change,
  });

export const fine: Measured = { turns: 10, errors: 0, firstTokenP95Ms: 100, interTokenP95Ms: 10 };
export const bad: Measured = { ...fine, errors: 5 };

const operator = { by: "ada", reason: "to see" };
const ofStep = (at: number, step = 0) => ({ at, model, rolloutId: "r2", step });

export const adopt: RolloutCommand = {
  ...{ type: "AdoptRevision", at: 0, model, revision: "guide-1", scale, timeouts },
  ...{ groupIds: ["guide-1-0"], by: "deploy" },
};
export const startRollout = (at = 100, change: Partial<RolloutRequest> = {}): RolloutCommand => ({
  ...{ type: "StartRollout", at, model, request: requestOf(change) },
});
export const capacityAsked = (at: number, step = 0): RolloutCommand => ({
  ...{ type: "ReportCapacityAsked", ...ofStep(at, step), groups: 1 },
});
export const capacityReady = (at: number, step = 0): RolloutCommand => ({
  ...{ type: "ReportCapacityReady", ...ofStep(at, step) },
});
export const addGroup = (at: number, groupId = "guide-2-0"): RolloutCommand => ({
  ...{ type: "AddGroup", at, model, groupId, revision: groupId.slice(0, -2), reason: "step 0" },
});
export const groupsReady = (at: number, step = 0): RolloutCommand => ({
  ...{ type: "ReportGroupsReady", ...ofStep(at, step), groupIds: ["guide-2-0"] },
});
export const measuredAs = (measured: Measured, at: number, step = 0): RolloutCommand => ({
  ...{ type: "ReportMeasured", ...ofStep(at, step), measured, baseline: null },
});
export const pause = (at: number): RolloutCommand => ({
  ...{ type: "PauseRollout", at, model, ...operator },
});
export const resume = (at: number): RolloutCommand => ({
  ...{ type: "ResumeRollout", at, model, ...operator },
});
export const promoteNow = (at: number): RolloutCommand => ({
  ...{ type: "PromoteNow", at, model, ...operator },
});
export const abort = (at: number, rolloutId?: string): RolloutCommand => ({
  ...{ type: "AbortRollout", at, model, ...operator, rolloutId },
});
export const rollBack = (at: number, returnId = "back"): RolloutCommand => ({
  ...{ type: "RollBack", at, model, ...operator, returnId },
});
export const retire = (at: number, revision = "guide-1"): RolloutCommand => ({
  ...{ type: "RetireRevision", at, model, revision, ...operator },
});
export const checkTimeouts = (at: number): RolloutCommand => ({ type: "CheckTimeouts", at, model });
export const problem = (at: number): RolloutCommand => ({
  ...{ type: "ReportProblem", at, model, rolloutId: "r2", reason: "no image" },
});
export const drain = (at: number, revision: string): RolloutCommand => ({
  ...{ type: "DrainRevision", at, model, revision, reason: "its turns have ended" },
});
export const retired = (at: number, revision: string): RolloutCommand => ({
  ...{ type: "ReportRetired", at, model, revision },
});
export const releaseGroup = (at: number, groupId: string): RolloutCommand => ({
  ...{ type: "ReleaseGroup", at, model, groupId, revision: groupId.slice(0, -2), reason: "x" },
});
export const removeGroup = (at: number, groupId: string, failed = false): RolloutCommand => ({
  ...{ type: "RemoveGroup", at, model, groupId, revision: groupId.slice(0, -2), reason: "x" },
  failed,
});
export const reject: RolloutCommand = {
  ...{ type: "RejectRequest", at: 50, model, rolloutId: "m1", source: "guide/m1.json" },
  reason: "steps: must end with 100.",
};

export const toForming = [adopt, startRollout(), capacityAsked(110), capacityReady(120)];
export const toCanary = [...toForming, addGroup(130), groupsReady(200)];
/** The step to 100 %. */
export const toLastStep = [
  ...toCanary,
  measuredAs(fine, 700),
  ...[capacityAsked(710, 1), capacityReady(720, 1), groupsReady(800, 1)],
];
export const toDraining = [...toLastStep, measuredAs(fine, 1_300, 1)];
export const toRollingBack = [...toCanary, measuredAs(bad, 300)];
const toWithdrawn = [adopt, retire(100)];

/** Commands that lead to each state. */
export const paths: Record<RolloutStatus, RolloutCommand[]> = {
  none: [],
  serving: [adopt],
  capacity: [adopt, startRollout()],
  forming: toForming,
  canary: toCanary,
  paused: [...toCanary, pause(250)],
  draining: toDraining,
  "rolling back": toRollingBack,
  "out of service": [
    ...toWithdrawn,
    ...[drain(200, "guide-1"), releaseGroup(210, "guide-1-0"), removeGroup(220, "guide-1-0")],
    retired(300, "guide-1"),
  ],
};

/** The events that the commands cause, one after the other. */
export function history(commands: readonly RolloutCommand[]): RolloutEvent[] {
  const events: RolloutEvent[] = [];
  for (const command of commands) events.push(...rollout.decide(command, fold(rollout, events)));
  return events;
}

export const stateAfter = (...commands: RolloutCommand[]): RolloutState =>
  fold(rollout, history(commands));
