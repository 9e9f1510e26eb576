import * as z from "zod";
import { AxonError } from "./errors.ts";

/**
 * What an operator, or a manifest, asks for: a revision that is to take a model's traffic, step by step,
 * and what has to hold meanwhile. Everything has a default but the names. Times are ms.
 */

const second = 1_000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

const nameSchema = z.string().regex(/^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$/, {
  message:
    "must be 1 to 100 letters, digits, dots, dashes or '_', with a letter or digit at both ends",
});

/** How many groups serve a revision, and by what it is decided (events/autoscale.ts). */
export const scaleSchema = z
  .strictObject({
    /** Groups when nothing is to be done; 0 lets the revision sleep, if `zeroAfterMs` says after when. */
    min: z.int().min(0).max(64).default(1),
    max: z.int().min(1).max(64).default(1),
    /** More groups when slots are busier, or turns wait longer, than this. */
    target: z
      .strictObject({
        /** Share of the slots that turns may take, waiting turns included. */
        busySlots: z.number().min(0.05).max(1).default(0.8),
        queueWaitMs: z
          .int()
          .min(0)
          .max(hour)
          .default(2 * second),
      })
      .prefault({}),
    /** After so long without a turn there is no group any more; null: at least one stays. */
    zeroAfterMs: z
      .int()
      .min(second)
      .max(7 * day)
      .nullable()
      .default(null),
    /** So long after one change of the number of groups comes the next. */
    cooldown: z
      .strictObject({
        upMs: z.int().min(0).max(day).default(minute),
        downMs: z
          .int()
          .min(0)
          .max(day)
          .default(10 * minute),
      })
      .prefault({}),
  })
  .refine(({ min, max }) => min <= max, { message: "must not be above max", path: ["min"] })
  .refine(({ min, zeroAfterMs }) => zeroAfterMs === null || min === 0, {
    message: "must be 0 where zeroAfterMs is given",
    path: ["min"],
  });
export type Scale = z.infer<typeof scaleSchema>;

const { min, max, target, zeroAfterMs, cooldown } = scaleSchema.shape;
const { busySlots, queueWaitMs } = target.unwrap().shape;
const { upMs, downMs } = cooldown.unwrap().shape;

/** Some of a scale; the rest stays as it is. Without defaults, so that nothing changes unasked. */
export const scaleChangeSchema = z.strictObject({
  min: min.unwrap().optional(),
  max: max.unwrap().optional(),
  target: z
    .strictObject({
      busySlots: busySlots.unwrap().optional(),
      queueWaitMs: queueWaitMs.unwrap().optional(),
    })
    .optional(),
  zeroAfterMs: zeroAfterMs.unwrap().optional(),
  cooldown: z
    .strictObject({ upMs: upMs.unwrap().optional(), downMs: downMs.unwrap().optional() })
    .optional(),
});
export type ScaleChange = z.infer<typeof scaleChangeSchema>;

/**
 * What a step's own turns must show before the next step. Null takes a gate away. p95 is the value that
 * 95 % of the turns do not exceed.
 */
export const gatesSchema = z.strictObject({
  /** No step ends, and no latency is judged, by fewer turns than this. */
  minimumTurns: z.int().min(0).max(1_000_000).default(50),
  /** Failed turns by ended turns, at most. */
  errorRate: z.number().min(0).max(1).nullable().default(0.02),
  firstTokenP95Ms: z
    .number()
    .positive()
    .max(hour)
    .nullable()
    .default(10 * second),
  interTokenP95Ms: z.number().positive().max(hour).nullable().default(250),
  /** Both latencies, at most so many times those of the promoted revision in the same time. */
  slowdown: z.number().min(1).max(100).nullable().default(1.5),
});
export type Gates = z.infer<typeof gatesSchema>;

export const timeoutsSchema = z.strictObject({
  /** Until there are machines for the groups of a step. */
  capacityMs: z
    .int()
    .min(second)
    .max(7 * day)
    .default(hour),
  /** Until a group is ready, which is mostly the loading of the weights. */
  formMs: z
    .int()
    .min(second)
    .max(day)
    .default(30 * minute),
  /** Until a step has had enough turns. */
  stepMs: z
    .int()
    .min(second)
    .max(30 * day)
    .default(6 * hour),
  /** Until the turns of a revision without traffic have ended. */
  drainMs: z.int().min(second).max(day).default(hour),
  /**
   * How long after the weights have moved a handler may still ask the old revision for a turn. API
   * Gateway gives up on a handler after 29 s.
   */
  settleMs: z
    .int()
    .min(0)
    .max(10 * minute)
    .default(35 * second),
});
export type Timeouts = z.infer<typeof timeoutsSchema>;

const stepsSchema = z
  .array(z.int().min(1).max(100))
  .min(1)
  .max(10)
  .refine((steps) => steps.every((percent, i) => percent > (steps[i - 1] ?? 0)), {
    message: "each step must be above the one before",
  })
  .refine((steps) => steps.at(-1) === 100, { message: "the last step must be 100" });

export const rolloutRequestSchema = z.strictObject({
  /** The request's own name. Sent again, it names the same rollout: retry freely. */
  rolloutId: nameSchema,
  /** The alias whose traffic moves. */
  model: nameSchema,
  /** Where it moves to. */
  revision: nameSchema,
  /** What happens while another rollout of the model is under way. */
  whenBusy: z.enum(["refuse", "queue"]).default("refuse"),
  /** Percent of new conversations that the revision gets, one step after the other. */
  steps: stepsSchema.default([10, 50, 100]),
  /** How long each step is watched, at least. */
  bakeMs: z
    .int()
    .min(0)
    .max(7 * day)
    .default(10 * minute),
  gates: gatesSchema.prefault({}),
  /** A gate that fails rolls back; else it pauses, and an operator decides. */
  automaticRollback: z.boolean().default(true),
  /** So often the revision's groups may be lost while it is watched. */
  maxGroupLosses: z.int().min(0).max(1_000).default(3),
  timeouts: timeoutsSchema.prefault({}),
  scale: scaleSchema.prefault({}),
  /** Who asked, and what for. */
  by: z.string().min(1).max(200),
  reason: z.string().max(1_000).default(""),
});
export type RolloutRequest = z.infer<typeof rolloutRequestSchema>;

/**
 * A request with its defaults filled in.
 * @throws AxonError invalid_field, naming the field and its limit.
 */
export const parseRolloutRequest = (input: unknown): RolloutRequest =>
  parsed(rolloutRequestSchema, input);

/** @throws AxonError invalid_field, naming the field and its limit. */
export const parseScale = (input: unknown): Scale => parsed(scaleSchema, input);

function parsed<Output>(schema: z.ZodType<Output>, input: unknown): Output {
  const result = schema.safeParse(input);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const unknown = issue?.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
  const field = [...(issue?.path ?? []), ...unknown].map(String).join(".").slice(0, 100);
  const problem = unknown.length > 0 ? "is not known here: leave it out" : issue?.message;
  throw new AxonError("invalid_field", `${field}: ${problem}.`, { field, cause: result.error });
}
