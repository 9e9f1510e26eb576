import * as z from "zod";
import { failureSchema, measuredSchema } from "./gates.ts";
import { rolloutRequestSchema, scaleSchema, timeoutsSchema } from "./rollout-request.ts";

/**
 * The facts about the revisions of one model, as they stand in the stream `rollout/<model>`: which share
 * of the traffic each gets, which groups serve it, and why. Every decision says its reason.
 */

const base = { version: z.literal(1), at: z.int().min(0), model: z.string() };

/** An operator's name, a manifest's key, or `manager`. */
const decision = { by: z.string(), reason: z.string() };

/** The share of new conversations that a revision gets. */
const weightSchema = z.strictObject({
  revision: z.string(),
  percent: z.int().min(1).max(100),
});
export type Weight = z.infer<typeof weightSchema>;

/** They add up to 100, or there are none, where no revision serves the model. */
export const weightsSchema = z
  .array(weightSchema)
  .max(2)
  .refine((weights) => weights.length === 0 || sumOf(weights) === 100, {
    message: "must add up to 100",
  });

function sumOf(weights: readonly Weight[]): number {
  return weights.reduce((sum, { percent }) => sum + percent, 0);
}

/** A revision that serves already, when the manager first hears of the model. */
const revisionAdoptedSchema = z.strictObject({
  type: z.literal("RevisionAdopted"),
  ...base,
  revision: z.string(),
  scale: scaleSchema,
  timeouts: timeoutsSchema,
  groupIds: z.array(z.string()),
  weights: weightsSchema,
  by: z.string(),
});

/** A rollout is in the queue; it begins at once if nothing is before it. */
const rolloutRequestedSchema = z.strictObject({
  type: z.literal("RolloutRequested"),
  ...base,
  request: rolloutRequestSchema,
});

const rolloutStartedSchema = z.strictObject({
  type: z.literal("RolloutStarted"),
  ...base,
  rolloutId: z.string(),
  revision: z.string(),
  /** The revision that serves now; null where none does. */
  from: z.string().nullable(),
});

/** Out of the queue, before it began. */
const rolloutWithdrawnSchema = z.strictObject({
  type: z.literal("RolloutWithdrawn"),
  ...base,
  rolloutId: z.string(),
  ...decision,
});

/** What was asked for is no rollout: a manifest that cannot be read, for one. Nothing else follows. */
const requestRejectedSchema = z.strictObject({
  type: z.literal("RequestRejected"),
  ...base,
  rolloutId: z.string(),
  /** Where it came from. */
  source: z.string(),
  reason: z.string(),
});

/** Of a rollout that is under way. */
const ofRollout = { ...base, rolloutId: z.string() };
/** Of one of its steps, counted from 0. */
const ofStep = { ...ofRollout, step: z.int().min(0) };

const capacityAskedSchema = z.strictObject({
  type: z.literal("CapacityAsked"),
  ...ofStep,
  /** Groups of the new revision that there are to be machines for. */
  groups: z.int().min(1),
});

const capacityReadySchema = z.strictObject({ type: z.literal("CapacityReady"), ...ofStep });

const groupsReadySchema = z.strictObject({
  type: z.literal("GroupsReady"),
  ...ofStep,
  groupIds: z.array(z.string()).min(1),
});

const canarySteppedSchema = z.strictObject({
  type: z.literal("CanaryStepped"),
  ...ofStep,
  percent: z.int().min(1).max(100),
  weights: weightsSchema,
});

const judgement = { measured: measuredSchema, baseline: measuredSchema.nullable() };

const gatePassedSchema = z.strictObject({
  type: z.literal("GatePassed"),
  ...ofStep,
  ...judgement,
});

const gateFailedSchema = z.strictObject({
  type: z.literal("GateFailed"),
  ...ofStep,
  ...judgement,
  failures: z.array(failureSchema).min(1),
});

const canaryBakedSchema = z.strictObject({
  type: z.literal("CanaryBaked"),
  ...ofStep,
  percent: z.int().min(1).max(100),
  /** How long the step was watched. */
  bakedMs: z.int().min(0),
});

const rolloutPausedSchema = z.strictObject({
  type: z.literal("RolloutPaused"),
  ...ofRollout,
  ...decision,
});

const rolloutResumedSchema = z.strictObject({
  type: z.literal("RolloutResumed"),
  ...ofRollout,
  ...decision,
});

/** The revision has all of the traffic, and keeps it. */
const rolloutPromotedSchema = z.strictObject({
  type: z.literal("RolloutPromoted"),
  ...ofRollout,
  revision: z.string(),
  from: z.string().nullable(),
  weights: weightsSchema,
  ...decision,
});

const rolloutTimedOutSchema = z.strictObject({
  type: z.literal("RolloutTimedOut"),
  ...ofRollout,
  phase: z.enum(["capacity", "forming", "canary"]),
  limitMs: z.int().min(0),
});

/** The traffic is again with the revision that had it before. */
const rolloutRolledBackSchema = z.strictObject({
  type: z.literal("RolloutRolledBack"),
  ...ofRollout,
  revision: z.string(),
  cause: z.enum(["gate", "timeout", "problem", "operator", "abort"]),
  weights: weightsSchema,
  ...decision,
});

/** An operator has taken the model out of service. */
const modelWithdrawnSchema = z.strictObject({
  type: z.literal("ModelWithdrawn"),
  ...base,
  revision: z.string(),
  ...decision,
});

const ofRevision = { ...base, revision: z.string() };

/** A revision without traffic has no turns left: its groups are drained. */
const revisionDrainingSchema = z.strictObject({
  type: z.literal("RevisionDraining"),
  ...ofRevision,
  reason: z.string(),
});

/** It still has turns, and is drained all the same. */
const drainOverdueSchema = z.strictObject({
  type: z.literal("DrainOverdue"),
  ...ofRevision,
  limitMs: z.int().min(0),
});

/** Its last group is gone. */
const revisionRetiredSchema = z.strictObject({
  type: z.literal("RevisionRetired"),
  ...ofRevision,
});

/** An operator has changed how many groups serve it. */
const revisionScaledSchema = z.strictObject({
  type: z.literal("RevisionScaled"),
  ...ofRevision,
  scale: scaleSchema,
  ...decision,
});

const ofGroup = { ...ofRevision, groupId: z.string(), reason: z.string() };

const groupAddedSchema = z.strictObject({ type: z.literal("GroupAdded"), ...ofGroup });
/** It is to be drained. */
const groupReleasedSchema = z.strictObject({ type: z.literal("GroupReleased"), ...ofGroup });
/** It is gone. */
const groupRemovedSchema = z.strictObject({
  type: z.literal("GroupRemoved"),
  ...ofGroup,
  /** It had failed. */
  failed: z.boolean(),
});

export const rolloutEventSchema = z.discriminatedUnion("type", [
  revisionAdoptedSchema,
  rolloutRequestedSchema,
  rolloutStartedSchema,
  rolloutWithdrawnSchema,
  requestRejectedSchema,
  capacityAskedSchema,
  capacityReadySchema,
  groupsReadySchema,
  canarySteppedSchema,
  gatePassedSchema,
  gateFailedSchema,
  canaryBakedSchema,
  rolloutPausedSchema,
  rolloutResumedSchema,
  rolloutPromotedSchema,
  rolloutTimedOutSchema,
  rolloutRolledBackSchema,
  modelWithdrawnSchema,
  revisionDrainingSchema,
  drainOverdueSchema,
  revisionRetiredSchema,
  revisionScaledSchema,
  groupAddedSchema,
  groupReleasedSchema,
  groupRemovedSchema,
]);
export type RolloutEvent = z.infer<typeof rolloutEventSchema>;
