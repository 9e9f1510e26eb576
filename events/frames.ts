import * as z from "zod";
import { type ErrorCode, errorCodes } from "./errors.ts";
import { limits } from "./limits.ts";
import type { NoticedFrame, ObservedFrame, OperatedFrame } from "./observations.ts";
import { requestedSamplingSchema } from "./sampling.ts";
import { prioritySchema, timingsSchema, usageSchema } from "./turn-events.ts";

/**
 * The frames of the WebSocket, one JSON object each. `action` names what a client asks, `type` what
 * the server says. docs/PROTOCOL.md explains them; the client takes its types from here. The operator's frames
 * are in observations.ts.
 */

/** An id in a frame: of a request, a turn or a conversation. */
export const idSchema = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, {
  message: "must be 1 to 64 letters, digits, '-' or '_'",
});

/** Asks for an answer. */
export const chatFrameSchema = z.strictObject({
  action: z.literal("chat"),
  /** The client's own name for this request. Sent again, it names the same turn: retry freely. */
  requestId: idSchema,
  /** Goes on with this conversation; left out, the turn starts a new one. */
  conversationId: idSchema.optional(),
  /** A model's name; left out, the default model. */
  model: z.string().min(1).max(100).optional(),
  prompt: z
    .string()
    .refine((prompt) => prompt.trim() !== "", { message: "must not be empty" })
    .refine((prompt) => Buffer.byteLength(prompt) <= limits.promptBytes, {
      message: `must be at most ${limits.promptBytes} bytes of UTF-8`,
      params: { code: "prompt_too_long" },
    }),
  /** What is left out takes the model's default; without a seed one is drawn and recorded. */
  sampling: requestedSamplingSchema.optional(),
  /** Interactive, unless it is said that nobody waits for the answer. */
  priority: prioritySchema.optional(),
  /** W3C Trace Context: the span of whoever asks. One that cannot be read is passed over. */
  traceparent: z.string().max(256).optional(),
});

/** Wishes that a turn ends. */
export const cancelFrameSchema = z.strictObject({
  action: z.literal("cancel"),
  turnId: idSchema,
});

/** Goes on with an answer, running or ended. */
export const resumeFrameSchema = z.strictObject({
  action: z.literal("resume"),
  turnId: idSchema,
  /** The last sequence number that the client has applied; 0 for all of the answer. */
  after: z.int().min(0),
  /** The epoch of that token, by which is found out whether the record still has it. */
  epoch: z.int().min(0).default(0),
});

export type ChatFrame = z.infer<typeof chatFrameSchema>;
/** What a client of chats sends. */
export type ClientFrame =
  | ChatFrame
  | z.infer<typeof cancelFrameSchema>
  | z.infer<typeof resumeFrameSchema>;

/** The turn is in the log: whatever dies now, it will be answered. */
export const acceptedFrameSchema = z.strictObject({
  type: z.literal("accepted"),
  requestId: z.string(),
  turnId: z.string(),
  conversationId: z.string(),
  model: z.string(),
  revision: z.string(),
  /** Only where the turn waits for others to end; an estimate. */
  queue: z
    .strictObject({
      /** 1 is next. */
      position: z.int().min(1),
      estimatedWaitMs: z.int().min(0),
    })
    .optional(),
  /** Only where no group of the revision lives and one is to form; an estimate. */
  warming: z.strictObject({ estimatedMs: z.int().min(0) }).optional(),
});

/**
 * Tokens `from`…`to` of a turn's answer, joined. Sequence numbers count tokens from 1, without
 * gaps. A frame may come twice (a relay was replaced): a client skips what it has applied. Text is
 * never cut within a character: the token that completes one carries it. Nor does it begin a stop
 * string that may yet be completed: the token that decides carries it.
 */
export const tokensFrameSchema = z.strictObject({
  type: z.literal("tokens"),
  turnId: z.string(),
  from: z.int().min(1),
  to: z.int().min(1),
  text: z.string(),
  /**
   * Which of the turn's leaders wrote token `to`; it grows when another takes the turn over. 0 where the
   * answer is told from the log.
   */
  epoch: z.int().min(0),
});

/**
 * The text after token `to` is not in the record: cut the answer back to it. The tokens that follow
 * start at `to` + 1.
 */
export const rewindFrameSchema = z.strictObject({
  type: z.literal("rewind"),
  turnId: z.string(),
  to: z.int().min(0),
});

/** The last frame of a turn. `lastSeq` is the number of its tokens, `epoch` that of the last of them. */
export const doneFrameSchema = z.strictObject({
  type: z.literal("done"),
  turnId: z.string(),
  lastSeq: z.int().min(0),
  epoch: z.int().min(0),
  finishReason: z.enum(["stop", "length", "cancelled", "failed"]),
  usage: usageSchema,
  timings: timingsSchema,
  /** Only with `failed`. */
  error: z.strictObject({ code: z.string(), message: z.string() }).optional(),
});

/** What was asked was refused, and nothing was recorded. */
export const errorFrameSchema = z.strictObject({
  type: z.literal("error"),
  code: z.enum(Object.keys(errorCodes) as [ErrorCode, ...ErrorCode[]]),
  /** What went wrong and what to do about it. */
  message: z.string(),
  retryable: z.boolean(),
  /** The part of the frame that was refused. */
  field: z.string().optional(),
  /** Which request or turn this is about, where the frame named one. */
  requestId: z.string().optional(),
  turnId: z.string().optional(),
  retryAfterMs: z.number().optional(),
});

export type AcceptedFrame = z.infer<typeof acceptedFrameSchema>;
export type TokensFrame = z.infer<typeof tokensFrameSchema>;
export type RewindFrame = z.infer<typeof rewindFrameSchema>;
export type DoneFrame = z.infer<typeof doneFrameSchema>;
export type ErrorFrame = z.infer<typeof errorFrameSchema>;
/** What is said about turns. */
type TurnFrame = AcceptedFrame | TokensFrame | RewindFrame | DoneFrame | ErrorFrame;
/** Whatever the server says. */
export type ServerFrame = TurnFrame | ObservedFrame | OperatedFrame | NoticedFrame;
