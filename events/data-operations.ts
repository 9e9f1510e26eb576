import * as z from "zod";

/**
 * What is asked of the function `data`, by a JSON payload: rebuild a projection, erase, export. Whatever can take
 * long is done in steps: the answer says how to go on, and asking again does no harm.
 * `{"command":"help"}` is answered with this as JSON Schema.
 */

const id = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, "must be the id of a conversation");
const tenantId = z.string().min(1).max(256).describe("All conversations of this tenant.");
const stepMs = z
  .int()
  .min(100)
  .max(600_000)
  .default(5_000)
  .describe("About how long this call may work, in ms; no longer than the function may run.");

const after = z
  .string()
  .max(1_000)
  .optional()
  .describe("`next` of the answer before. Without it, from the start.");

/** Of one conversation, or of all of a tenant's. */
const whose = { conversationId: id.optional(), tenantId: tenantId.optional() };
const isOne = (asked: { conversationId?: unknown; tenantId?: unknown }) =>
  (asked.conversationId === undefined) !== (asked.tenantId === undefined);
const oneOfBoth = {
  error: "must have either conversationId or tenantId",
  path: ["conversationId"],
};

const operations = [
  z
    .strictObject({
      command: z.literal("rebuild"),
      projection: z.enum(["history"]),
      abandon: z.boolean().default(false).describe("Throws away what a rebuild has done so far."),
      stepMs,
    })
    .describe(
      "Reads the log into new tables, which take the place of those in use when they know as much. " +
        "Ask again until `state` is done.",
    ),
  z
    .strictObject({ command: z.literal("erase"), ...whose, after, stepMs })
    .refine(isOne, oneOfBoth)
    .describe("Erases what was said, for good. Of a tenant: ask again while there is `next`."),
  z
    .strictObject({
      command: z.literal("export"),
      ...whose,
      after,
      events: z.boolean().default(false).describe("The events of each turn, too."),
    })
    .refine(isOne, oneOfBoth)
    .describe("What was said, as `lines` of docs/DATA.md. Ask again while there is `next`."),
  z.strictObject({ command: z.literal("help") }).describe("This, as JSON Schema."),
] as const;

export const dataOperationSchema = z.discriminatedUnion("command", operations);
export type DataOperation = z.output<typeof dataOperationSchema>;
