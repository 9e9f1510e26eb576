import * as z from "zod";
import { samplingSchema } from "./sampling.ts";
import { sealable } from "./sealed-words.ts";

/**
 * The facts about one turn, as they stand in the stream `turn/<id>`. Each event carries the version
 * of its own shape; `upcast` in event-catalog.ts turns older shapes into these.
 */

/** Tokens that a turn has cost. */
export const usageSchema = z.strictObject({
  promptTokens: z.int().min(0),
  completionTokens: z.int().min(0),
});
export type Usage = z.infer<typeof usageSchema>;

/** Where a turn's time went, in milliseconds. */
export const timingsSchema = z.strictObject({
  /** From the request until a leader claimed the job. */
  queuedMs: z.number().min(0),
  /** From the claim until the first token was appended to the stream. */
  firstTokenMs: z.number().min(0),
  /** From the claim until the stream was sealed. */
  totalMs: z.number().min(0),
});
export type Timings = z.infer<typeof timingsSchema>;

/** Whether somebody waits for the answer. Interactive turns go before batch turns. */
export const prioritySchema = z.enum(["interactive", "batch"]);
export type Priority = z.infer<typeof prioritySchema>;

export const chatMessageSchema = z.strictObject({
  role: z.enum(["system", "user", "assistant"]),
  content: z.string(),
});
export type ChatMessage = z.infer<typeof chatMessageSchema>;

/** How the model is to read a prompt that is no chat: as it stands, without the model's chat template. */
export const promptFormatSchema = z.literal("raw");

const base = { version: z.literal(1), at: z.int().min(0), turnId: z.string() };

/** Who runs a turn. The epoch grows by one with every claim, so a leader with a lower one is stale. */
const runner = { groupId: z.string(), leaderId: z.string(), epoch: z.int().min(1) };

const ending = { epoch: z.int().min(1), text: z.string(), usage: usageSchema, ...sealable };

export const turnRequestedSchema = z.strictObject({
  type: z.literal("TurnRequested"),
  ...base,
  conversationId: z.string(),
  tenantId: z.string(),
  /** The name the client asked for, and the revision that was chosen for it. */
  model: z.string(),
  revision: z.string(),
  prompt: z.string(),
  /**
   * What the caller says was said before the prompt, oldest first; in place of what the conversation holds.
   * Only where the caller keeps the conversation.
   */
  context: z.array(chatMessageSchema).optional(),
  /** Only where the prompt is no chat. */
  promptFormat: promptFormatSchema.optional(),
  sampling: samplingSchema,
  priority: prioritySchema,
  correlationId: z.string(),
  ...sealable,
});

export const turnStartedSchema = z.strictObject({
  type: z.literal("TurnStarted"),
  ...base,
  ...runner,
});

export const turnTakenOverSchema = z.strictObject({
  type: z.literal("TurnTakenOver"),
  ...base,
  ...runner,
  /** Tokens already in the stream, from which the new leader goes on. */
  emittedTokens: z.int().min(0),
});

export const turnCancelRequestedSchema = z.strictObject({
  type: z.literal("TurnCancelRequested"),
  ...base,
  reason: z.enum(["user", "abandoned"]),
});

export const turnCompletedSchema = z.strictObject({
  type: z.literal("TurnCompleted"),
  ...base,
  ...ending,
  finishReason: z.enum(["stop", "length"]),
  timings: timingsSchema,
});

export const turnCancelledSchema = z.strictObject({
  type: z.literal("TurnCancelled"),
  ...base,
  ...ending,
  timings: timingsSchema,
});

export const turnFailedSchema = z.strictObject({
  type: z.literal("TurnFailed"),
  ...base,
  ...ending,
  code: z.string(),
  message: z.string(),
});

export type TurnEvent =
  | z.infer<typeof turnRequestedSchema>
  | z.infer<typeof turnStartedSchema>
  | z.infer<typeof turnTakenOverSchema>
  | z.infer<typeof turnCancelRequestedSchema>
  | z.infer<typeof turnCompletedSchema>
  | z.infer<typeof turnCancelledSchema>
  | z.infer<typeof turnFailedSchema>;
