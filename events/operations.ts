import * as z from "zod";
import { momentFields } from "./moment.ts";
import {
  rolloutRequestSchema,
  scaleChangeSchema,
  scaleSchema,
  timeoutsSchema,
} from "./rollout-request.ts";
import { questionsWith } from "./views.ts";

/**
 * What an operator asks of the function `ops`, by a JSON payload: from the SST Console, by the command line,
 * or by whatever may invoke it. `{"command":"help"}` is answered with this as JSON Schema.
 */

const model = rolloutRequestSchema.shape.model
  .optional()
  .describe("The name that clients ask for; the deployment's default model where it is left out.");
const by = z.string().min(1).max(200).default("operator").describe("Who asks, for the log.");
const reason = z.string().max(1_000).default("").describe("Why, for the log.");
const rolloutId = rolloutRequestSchema.shape.rolloutId;

/** Of the rollout that is under way, unless it is named. */
const aboutRollout = {
  ...{ model, by, reason },
  rolloutId: rolloutId
    .optional()
    .describe("Which rollout is meant; without it the one that is under way, whichever it is."),
};

const startSchema = rolloutRequestSchema
  .extend({
    command: z.literal("start"),
    ...{ model, by, reason },
    rolloutId: rolloutId
      .optional()
      .describe("The rollout's own name. Ask again with the same one as often as you like."),
  })
  .describe("Starts a rollout: a revision is to take the model's traffic, step by step.");

const adoptSchema = z
  .strictObject({
    command: z.literal("adopt"),
    model,
    revision: rolloutRequestSchema.shape.revision,
    scale: scaleSchema.prefault({}),
    timeouts: timeoutsSchema.prefault({}),
    groupIds: z
      .array(z.string().min(1).max(200))
      .max(64)
      .describe("The groups that serve it; their ids end with a dash and a number."),
    by,
  })
  .describe(
    "Takes over a revision that serves already. The log must know nothing of the model yet.",
  );

const about = <Command extends string>(command: Command, what: string) =>
  z.strictObject({ command: z.literal(command), ...aboutRollout }).describe(what);

const queue = z
  .enum(["jobs", "reports"])
  .optional()
  .describe("Only of the jobs' queues, or of the reports'.");
const groupId = z.string().min(1).max(200).describe("The group's id.");

const seeHistory = {
  model,
  ...momentFields,
  limit: z.int().min(1).max(1_000).default(200).describe("So many events at most, the newest."),
};

const operations = [
  startSchema,
  about("pause", "Nothing moves on and nothing times out, until it is resumed."),
  about("resume", "The phase that it was paused in begins anew."),
  about("promote", "The revision gets all of the traffic now."),
  about("abort", "Gives up a rollout that is not promoted yet, or takes it out of the queue."),
  z
    .strictObject({
      command: z.literal("rollback"),
      ...aboutRollout,
      returnId: rolloutId
        .optional()
        .describe(
          "The name of the rollout back. Ask again with the same one as often as you like.",
        ),
    })
    .describe("Gives up the rollout; after its promotion, goes back to the revision before."),
  z
    .strictObject({
      command: z.literal("retire"),
      ...{ model, by, reason },
      revision: rolloutRequestSchema.shape.revision.describe(
        "So that it is not another by mistake.",
      ),
    })
    .describe("Takes the model out of service: no more turns, and then no groups."),
  scaleChangeSchema
    .extend({
      command: z.literal("scale"),
      ...{ model, by, reason },
      revision: rolloutRequestSchema.shape.revision
        .optional()
        .describe("Whose groups; those of the revision that is promoted where it is left out."),
    })
    .describe("Changes how many groups serve a revision; what is left out stays as it is."),
  adoptSchema,
  z
    .strictObject({ command: z.literal("status"), model, ...momentFields })
    .describe("Weights, groups and gates, now or at a moment of the past."),
  z
    .strictObject({ command: z.literal("history"), ...seeHistory })
    .describe("What was decided of the model and its groups, when, by whom and why."),
  z
    .strictObject({
      command: z.literal("turn"),
      turnId: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "must be the id of a turn"),
    })
    .describe("Which revision and groups have produced a turn, and what the weights were then."),
  z
    .strictObject({ command: z.literal("check") })
    .describe("Whether everything that turns need is there, and what to do where it is not."),
  z
    .strictObject({ command: z.literal("dead-letters"), queue })
    .describe("The messages that could not be worked off, which stay where they are."),
  z
    .strictObject({
      command: z.literal("redrive"),
      queue,
      id: z.string().min(1).max(100).optional().describe("Only the dead letter of this id."),
    })
    .describe("Moves dead letters back to the queue that they come from."),
  z
    .strictObject({
      command: z.literal("rotate"),
      groupId,
      epoch: z
        .int()
        .min(0)
        .optional()
        .describe("Which start of the leader is meant: one that was started since is left alone."),
      by,
      reason,
    })
    .describe(
      "A group's leader ends the turns it has, and is started again. Refused where no other group would take turns.",
    ),
  z.strictObject({ command: z.literal("help") }).describe("This, as JSON Schema."),
] as const;

const tenantId = z.string().min(1).max(200).optional().describe("Only what is this tenant's.");
/** All views (views.ts), of all tenants. */
const observeSchema = questionsWith({ command: z.literal("observe"), tenantId });

const operationNames = ["observe", ...operations.map(({ shape }) => shape.command.value)];

export const operationSchema = z.discriminatedUnion("command", [...operations, observeSchema], {
  error: ({ input }) => {
    const asked = (input as { command?: unknown } | null | undefined)?.command;
    const instead = typeof asked === "string" ? `, not ${JSON.stringify(asked.slice(0, 60))}` : "";
    return `must be one of ${operationNames.join(", ")}${instead}`;
  },
});
export type Operation = z.output<typeof operationSchema>;
