import * as z from "zod";

/** The facts about one group, as they stand in the stream `group/<id>`. */

const base = { version: z.literal(1), at: z.int().min(0), groupId: z.string() };

const groupRequestedSchema = z.strictObject({
  type: z.literal("GroupRequested"),
  ...base,
  model: z.string(),
  revision: z.string(),
  /** From now until it is ready, and again after each loss. */
  formMs: z.int().min(0),
});

const groupReadySchema = z.strictObject({
  type: z.literal("GroupReady"),
  ...base,
  /** Grows each time that the group is started. */
  epoch: z.int().min(1),
  ranks: z.int().min(1),
  /** Turns that it runs at the same time. */
  slots: z.int().min(1),
});

const groupLostSchema = z.strictObject({
  type: z.literal("GroupLost"),
  ...base,
  epoch: z.int().min(1),
  reason: z.string(),
});

const groupFailedSchema = z.strictObject({
  type: z.literal("GroupFailed"),
  ...base,
  cause: z.enum(["timeout", "cluster"]),
  reason: z.string(),
});

const groupDrainingSchema = z.strictObject({
  type: z.literal("GroupDraining"),
  ...base,
  reason: z.string(),
});

const groupGoneSchema = z.strictObject({ type: z.literal("GroupGone"), ...base });

export const groupEventSchema = z.discriminatedUnion("type", [
  groupRequestedSchema,
  groupReadySchema,
  groupLostSchema,
  groupFailedSchema,
  groupDrainingSchema,
  groupGoneSchema,
]);
export type GroupEvent = z.infer<typeof groupEventSchema>;
