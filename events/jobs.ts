import * as z from "zod";
import { samplingSchema } from "./sampling.ts";
import {
  type ChatMessage,
  chatMessageSchema,
  prioritySchema,
  promptFormatSchema,
  timingsSchema,
  usageSchema,
} from "./turn-events.ts";

export type { ChatMessage };
export { chatMessageSchema };

/**
 * The messages between control plane and data plane. Both sides deploy apart and run skewed during
 * every rollout, so each message names its version and carries all that its reader needs.
 */

/** A turn to run, on the queue of its revision (SQS standard). */
export const jobSchema = z.strictObject({
  version: z.literal(1),
  turnId: z.string(),
  tenantId: z.string(),
  conversationId: z.string(),
  revision: z.string(),
  /** The conversation so far, oldest first; the last message is the prompt. */
  messages: z.array(chatMessageSchema).min(1),
  sampling: samplingSchema,
  requestedAt: z.int().min(0),
  correlationId: z.string(),
  /** Left out where it is interactive: what was written before there were two reads so, too. */
  priority: prioritySchema.default("interactive"),
  /** Left out for a chat. A raw prompt is the only message, and is read as it stands. */
  promptFormat: promptFormatSchema.optional(),
});
export type Job = z.infer<typeof jobSchema>;
/** A job as it is written: what its reader fills in by itself may be left out. */
export type SentJob = z.input<typeof jobSchema>;

const reportBase = {
  version: z.literal(1),
  turnId: z.string(),
  groupId: z.string(),
  leaderId: z.string(),
  epoch: z.int().min(1),
  at: z.int().min(0),
  correlationId: z.string(),
};
const reportEnding = {
  ...reportBase,
  startedAt: z.int().min(0),
  text: z.string(),
  usage: usageSchema,
  timings: timingsSchema,
};

/** What a leader says of a turn, on the reports queue (SQS FIFO, grouped by turn). */
export const reportSchema = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("started"),
    ...reportBase,
    emittedTokens: z.int().min(0),
  }),
  z.strictObject({
    type: z.literal("completed"),
    ...reportEnding,
    finishReason: z.enum(["stop", "length"]),
  }),
  z.strictObject({
    type: z.literal("cancelled"),
    ...reportEnding,
    /** "abandoned": nobody has watched it for too long, which is the leader's to find out. */
    reason: z.enum(["user", "abandoned"]).default("user"),
  }),
  z.strictObject({
    type: z.literal("failed"),
    ...reportEnding,
    code: z.string(),
    message: z.string(),
  }),
]);
export type Report = z.infer<typeof reportSchema>;

/**
 * A message as the body of its SQS message: JSON, in which characters stand as escapes that a queue may
 * refuse to carry: U+FFFE and U+FFFF, and, with emulators of SQS, all beyond the basic plane.
 */
export function messageBody(message: unknown): string {
  return JSON.stringify(message).replace(
    /[\ud800-\udfff\ufffe\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16)}`,
  );
}

/** FIFO deduplication: a leader says each thing of a turn once in an epoch. */
export function reportDeduplicationId(report: Report): string {
  return `${report.turnId}-${report.epoch}-${report.type}`;
}
