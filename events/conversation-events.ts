import * as z from "zod";

/** The facts about one conversation, as they stand in the stream `conversation/<id>`. */

const base = { version: z.literal(1), at: z.int().min(0), conversationId: z.string() };

export const conversationStartedSchema = z.strictObject({
  type: z.literal("ConversationStarted"),
  ...base,
  tenantId: z.string(),
  title: z.string(),
});

export const turnAddedSchema = z.strictObject({
  type: z.literal("TurnAdded"),
  ...base,
  turnId: z.string(),
  /** The turn's place in the conversation, from 1. */
  ordinal: z.int().min(1),
});

export type ConversationEvent =
  | z.infer<typeof conversationStartedSchema>
  | z.infer<typeof turnAddedSchema>;
