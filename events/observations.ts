import * as z from "zod";
import { idSchema } from "./frames.ts";
import { positionSchema } from "./moment.ts";
import { operationSchema } from "./operations.ts";
import { type ObservedData, questionsWith, type View, viewQuestions } from "./views.ts";

/**
 * The operator's frames of the WebSocket: `observe` needs the scope ops:read and is answered by `observed`;
 * `operate` needs ops:write and is answered by `operated`. What can be seen is in views.ts, what can be done in
 * operations.ts. They are apart from frames.ts so that the functions behind a chat do not carry them.
 */

export const observeFrameSchema = questionsWith({
  action: z.literal("observe"),
  requestId: idSchema,
});

export const operateFrameSchema = z.strictObject({
  action: z.literal("operate"),
  requestId: idSchema,
  operation: operationSchema,
});

export type ObserveFrame = z.input<typeof observeFrameSchema>;
export type OperateFrame = z.input<typeof operateFrameSchema>;

/** What was asked for, as it was `at` that time (Unix ms). */
export const observedFrameSchema = z.strictObject({
  type: z.literal("observed"),
  requestId: z.string(),
  view: z.enum(Object.keys(viewQuestions) as [View, ...View[]]),
  at: z.int().min(0),
  /** By the view: `ObservedData` of views.ts. */
  data: z.looseObject({}),
});

/** What has come of an operation. */
export const operatedFrameSchema = z.strictObject({
  type: z.literal("operated"),
  requestId: z.string(),
  /** A refusal is an answer, too, and says what to do. */
  answer: z.looseObject({ ok: z.boolean() }),
});

/** A commit of the log, without what it holds. */
const changeSchema = z.strictObject({
  stream: z.string(),
  version: z.int().min(1),
  position: positionSchema,
  /** When it was written, Unix ms. */
  at: z.int().min(0),
  /** Of its events. */
  types: z.array(z.string()),
});

/**
 * The log has grown by streams that the connection may see. Sent for a minute after whatever was observed, at
 * most once a second. What concerns what is shown is asked for anew.
 */
export const noticedFrameSchema = z.strictObject({
  type: z.literal("noticed"),
  /** The highest of the changes'. */
  position: positionSchema,
  changes: z.array(changeSchema),
});

/** What the relays are told (events/redis-keys.ts, `noticeChannel`). */
export const noticeSchema = z.object({
  /** Whose it is; null where all may see it. */
  tenantId: z.string().nullable(),
  change: changeSchema,
});
export type Notice = z.infer<typeof noticeSchema>;

export type ObservedFrame<V extends View = View> = V extends View
  ? { type: "observed"; requestId: string; view: V; at: number; data: ObservedData[V] }
  : never;

export interface OperatedFrame {
  type: "operated";
  requestId: string;
  answer: { ok: boolean; [key: string]: unknown };
}

export type NoticedFrame = z.infer<typeof noticedFrameSchema>;
export type Change = z.infer<typeof changeSchema>;
