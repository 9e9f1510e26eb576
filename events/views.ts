import * as z from "zod";
import { momentFields, positionSchema } from "./moment.ts";
import { timingsSchema, usageSchema } from "./turn-events.ts";

/**
 * What an operator can look at: for each view what it is asked with, and what it shows. Times are Unix ms; what is
 * not known is null. Whoever observes over the WebSocket sees its own tenant's conversations and turns, and of
 * groups, queues, rollouts and rates what there is in the whole deployment; the function `ops` sees all tenants.
 * No text of a prompt, an answer or a title is ever shown: where it stood is how long it is, `{ omitted: bytes }`.
 */

const id = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "must be 1 to 64 letters, digits, '-' or '_'");
const model = z.string().min(1).max(100).describe("The name that clients ask for.");
const revision = z.string().min(1).max(200).describe("Only of this revision.");
const streamName = z.string().min(1).max(300);

const view = <Name extends string, Shape extends z.core.$ZodLooseShape>(
  name: Name,
  what: string,
  fields: Shape,
) => z.strictObject({ view: z.literal(name), ...fields }).describe(what);

/** The most that one answer over the WebSocket can carry are 128 KB, which bounds the pages. */
const limit = (most: number, usual: number) =>
  z.int().min(1).max(most).default(usual).describe("So many at most.");

export const viewQuestions = {
  overview: view("overview", "How the deployment is, on one page.", {}),
  groups: view("groups", "Every group that the log, the cluster or a heartbeat knows of.", {}),
  queues: view("queues", "What waits in the queues, and their dead letters.", {}),
  turns: view("turns", "Turns, those asked for last first.", {
    status: z.enum(["open", "completed", "cancelled", "failed"]).optional(),
    revision: revision.optional(),
    model: model.optional(),
    before: z.string().max(300).optional().describe("The page after: `next` of the one before."),
    limit: limit(100, 50),
  }),
  turn: view("turn", "One turn: what happened to it, and where its time went.", { turnId: id }),
  rollout: view("rollout", "A model's rollout now or at a moment of the past.", {
    model: model.optional(),
    ...momentFields,
  }),
  log: view("log", "Commits of the log, of all streams together, in the order of their writing.", {
    stream: streamName
      .optional()
      .describe("Only of streams whose names begin so: `turn/`, `group/…`."),
    type: z.string().min(1).max(60).optional().describe("Only with an event of this type."),
    after: positionSchema.optional().describe("Those after this commit, oldest first."),
    before: positionSchema.optional().describe("Those before this commit, newest first."),
    limit: limit(100, 50),
  }),
  fold: view(
    "fold",
    "The state that a stream's events add up to, now or at a moment of the past.",
    {
      stream: streamName,
      ...momentFields,
    },
  ),
  series: view("series", "Turns that have ended, their rates and latencies over time.", {
    windowMs: z
      .int()
      .min(10_000)
      .max(31 * 86_400_000)
      .describe("From so long ago until now."),
    buckets: z.int().min(1).max(120),
    revision: revision.optional(),
  }),
};

export type View = keyof typeof viewQuestions;

/** A question about any view, with the fields of what carries it. */
export const questionsWith = <Fields extends z.core.$ZodLooseShape>(fields: Fields) =>
  z.discriminatedUnion("view", [
    viewQuestions.overview.extend(fields),
    viewQuestions.groups.extend(fields),
    viewQuestions.queues.extend(fields),
    viewQuestions.turns.extend(fields),
    viewQuestions.turn.extend(fields),
    viewQuestions.rollout.extend(fields),
    viewQuestions.log.extend(fields),
    viewQuestions.fold.extend(fields),
    viewQuestions.series.extend(fields),
  ]);

const viewQuestionSchema = questionsWith({});
export type ViewQuestion = z.output<typeof viewQuestionSchema>;

const ms = z.number().nullable();
const weights = z.array(z.object({ revision: z.string(), percent: z.number() }));

/** An event as it is shown: its texts are `{ omitted: bytes }`. */
const shownEvent = z.looseObject({ type: z.string(), version: z.number(), at: z.number() });

const overview = z.object({
  stage: z.string(),
  models: z.array(
    z.object({
      model: z.string(),
      weights,
      /** Null where no rollout is under way. */
      rolloutPhase: z.string().nullable(),
    }),
  ),
  groups: z.object({ ready: z.int(), forming: z.int(), draining: z.int() }),
  turns: z.object({
    running: z.int(),
    waiting: z.int(),
    oldestWaitMs: ms,
    lastMinute: z.object({ ended: z.int(), failed: z.int() }),
  }),
  /** Of all queues; null where they cannot be asked. */
  deadLetters: z.int().nullable(),
  /** Of the turns that have ended in the last five minutes. */
  slo: z.object({ firstTokenP95Ms: ms, interTokenP95Ms: ms, errorPercent: z.number().nullable() }),
});

const group = z.object({
  groupId: z.string(),
  model: z.string(),
  revision: z.string(),
  /** `silent`: it is to be ready, and has not been heard of for ten seconds. */
  status: z.enum(["asked for", "forming", "ready", "draining", "failed", "gone", "silent"]),
  /** Of the leader that was heard last, else of the log; 0 before the first. */
  epoch: z.number(),
  ranks: z.number().nullable(),
  slots: z.number(),
  running: z.number(),
  /** Share of its memory for keys and values that is taken, 0 to 1. */
  kvUse: z.number().nullable(),
  tokensPerSecond: z.number().nullable(),
  beatAgeMs: ms,
  /** It takes new turns. */
  isAccepting: z.boolean(),
  losses: z.number(),
});

const queue = z.object({
  name: z.string(),
  kind: z.enum(["jobs", "reports"]),
  revision: z.string().nullable(),
  /** SQS's approximate numbers. */
  waiting: z.number(),
  inFlight: z.number(),
  /** How long the oldest turn of the queue's revision has waited for a leader. */
  oldestJobMs: ms,
  deadLetters: z.number(),
});

const turnSummary = z.object({
  turnId: z.string(),
  tenantId: z.string(),
  conversationId: z.string(),
  model: z.string(),
  revision: z.string(),
  status: z.enum(["requested", "running", "completed", "cancelled", "failed"]),
  groupId: z.string().nullable(),
  epoch: z.number(),
  requestedAt: z.number(),
  startedAt: ms,
  endedAt: ms,
  timings: timingsSchema.nullable(),
  usage: usageSchema.nullable(),
  /** So far; null where neither the stream nor the log knows. */
  tokens: z.number().nullable(),
  errorCode: z.string().nullable(),
});

const timelineEntry = z.object({
  at: z.number(),
  what: z.enum([
    "requested",
    "sent",
    "claimed",
    "first token",
    "taken over",
    "cancel requested",
    "completed",
    "cancelled",
    "failed",
  ]),
  groupId: z.string().optional(),
  leaderId: z.string().optional(),
  epoch: z.number().optional(),
  /** That were there by then. */
  tokens: z.number().optional(),
});

const turn = turnSummary.extend({
  timeline: z.array(timelineEntry),
  /** Where its time went, so far; null before anybody has claimed it. */
  spent: z
    .object({
      /** From the request to the first claim. */
      queuedMs: z.number(),
      /** From the first claim to the first token; null before it. */
      firstTokenMs: ms,
      /** From the first token to the end, or until now. */
      generatingMs: ms,
    })
    .nullable(),
  runs: z.array(
    z.object({
      groupId: z.string(),
      leaderId: z.string(),
      epoch: z.number(),
      at: z.number(),
      emittedTokens: z.number(),
    }),
  ),
  /** Those in force when it was asked for. */
  weights,
  /** The rollout under way then. */
  rolloutId: z.string().nullable(),
  events: z.array(shownEvent),
});

const measured = z.object({
  revision: z.string(),
  turns: z.number(),
  errors: z.number(),
  firstTokenP95Ms: ms,
  interTokenP95Ms: ms,
});

/** A model's weights, groups and gates. */
export const rolloutStatusSchema = z.looseObject({
  model: z.string(),
  status: z.string(),
  promoted: z.string().nullable(),
  previous: z.string().nullable(),
  weights,
  scales: z.array(
    z.looseObject({
      revision: z.string(),
      min: z.number(),
      max: z.number(),
      target: z.object({ busySlots: z.number(), queueWaitMs: z.number() }),
      zeroAfterMs: ms,
    }),
  ),
  groups: z.array(
    z.object({
      groupId: z.string(),
      revision: z.string(),
      status: z.string(),
      isReleased: z.boolean(),
      slots: z.number().optional(),
      losses: z.number().optional(),
      formedInMs: ms.optional(),
      reason: z.string().nullish(),
    }),
  ),
  rollout: z
    .object({
      rolloutId: z.string(),
      revision: z.string(),
      by: z.string(),
      reason: z.string(),
      phase: z.string(),
      step: z.number(),
      steps: z.array(z.number()),
      percent: z.number(),
      startedAt: z.number(),
      since: z.number(),
      bakeMs: z.number(),
      paused: z.object({ at: z.number(), by: z.string(), reason: z.string() }).nullable(),
    })
    .nullable(),
  /** When the phase is late. */
  deadline: ms,
  gates: z
    .object({
      limits: z.object({
        minimumTurns: z.number(),
        errorRate: z.number().nullable(),
        firstTokenP95Ms: ms,
        interTokenP95Ms: ms,
        slowdown: z.number().nullable(),
      }),
      /** Null while PostgreSQL is away. */
      measured: z.array(measured).nullable(),
      /** How late the projection is that they were measured by. */
      lagMs: ms,
    })
    .nullable(),
  retiring: z
    .object({
      revision: z.string(),
      because: z.string(),
      isDraining: z.boolean(),
      isOverdue: z.boolean(),
    })
    .nullable(),
  queue: z.array(z.object({ rolloutId: z.string(), revision: z.string(), by: z.string() })),
  past: z.array(
    z.object({
      rolloutId: z.string(),
      revision: z.string(),
      outcome: z.string(),
      reason: z.string(),
      endedAt: z.number(),
    }),
  ),
  position: z.string().nullable(),
});

/** One event of a model's or of a group's stream, and where it stands. */
export const historyEntrySchema = z.object({
  position: z.string(),
  stream: z.string(),
  event: z.looseObject({
    type: z.string(),
    at: z.number(),
    by: z.string().optional(),
    reason: z.string().optional(),
    request: z.looseObject({ rolloutId: z.string(), revision: z.string() }).optional(),
  }),
});

const rollout = z.object({
  status: rolloutStatusSchema,
  /** Oldest first: the newest 200 at most. */
  history: z.array(historyEntrySchema),
});

const commit = z.object({
  stream: z.string(),
  version: z.number(),
  position: z.string(),
  at: z.number(),
  events: z.array(shownEvent),
});

const end = z.object({ position: z.string(), at: z.number() }).nullable();

const log = z.object({
  /** Oldest first with `after`, else newest first. */
  commits: z.array(commit),
  /** Go on with it as `after` or `before`; null where there is no more, for now. */
  next: z.string().nullable(),
  /** Of all that the log has. */
  range: z.object({ first: end, last: end }),
});

const folded = z.object({
  stream: z.string(),
  /** Of the last commit that is in it; 0 where there was none by then. */
  version: z.number(),
  position: z.string().nullable(),
  at: ms,
  state: z.looseObject({}),
});

const series = z.object({
  from: z.number(),
  to: z.number(),
  bucketMs: z.number(),
  /** Of the turns that ended within each bucket; `at` is its beginning. */
  points: z.array(
    z.object({
      at: z.number(),
      turns: z.number(),
      failed: z.number(),
      tokensPerSecond: z.number(),
      firstTokenP50Ms: ms,
      firstTokenP95Ms: ms,
      interTokenP50Ms: ms,
      interTokenP95Ms: ms,
    }),
  ),
});

/** What each view shows. */
export const viewDataSchemas = {
  overview,
  groups: z.object({ groups: z.array(group) }),
  queues: z.object({ queues: z.array(queue) }),
  turns: z.object({ turns: z.array(turnSummary), next: z.string().nullable() }),
  turn,
  rollout,
  log,
  fold: folded,
  series,
};

export type ObservedData = {
  [Name in View]: z.infer<(typeof viewDataSchemas)[Name]>;
};
export type SeenGroup = z.infer<typeof group>;
export type SeenQueue = z.infer<typeof queue>;
export type SeenTurn = z.infer<typeof turnSummary>;
export type TimelineEntry = z.infer<typeof timelineEntry>;
export type SeenCommit = z.infer<typeof commit>;
export type RolloutStatus = z.infer<typeof rolloutStatusSchema>;
export type HistoryEntry = z.infer<typeof historyEntrySchema>;
