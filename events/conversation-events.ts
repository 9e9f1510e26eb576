import * as z from "zod";
import { sealable } from "./sealed-words.ts";

/** The facts about one conversation, as they stand in the stream `conversation/<id>`. */

const base = { version: z.literal(1), at: z.int().min(0), conversationId: z.string() };

export const conversationStartedSchema = z.strictObject({
  type: z.literal("ConversationStarted"),
  ...base,
  tenantId: z.string(),
  title: z.string(),
  /** Only where it was made by a request of another program, which keeps its conversations itself. */
  origin: z.literal("api").optional(),
  ...sealable,
});

export const turnAddedSchema = z.strictObject({
  type: z.literal("TurnAdded"),
  ...base,
  turnId: z.string(),
  /** The turn's place in the conversation, from 1. */
  ordinal: z.int().min(1),
});

/**
 * From here on the conversation is gone for everybody, and takes no turn. Its words follow: the fact is
 * what they are deleted by.
 */
export const conversationErasedSchema = z.strictObject({
  type: z.literal("ConversationErased"),
  ...base,
  /** Its own tenant by the API, or whoever runs the deployment. */
  by: z.enum(["tenant", "operator"]),
});

export type ConversationEvent =
  | z.infer<typeof conversationStartedSchema>
  | z.infer<typeof turnAddedSchema>
  | z.infer<typeof conversationErasedSchema>;
