import * as z from "zod";

/** A commit's place in the log: 10 characters of time, 16 that count on (events/ids.ts, `positionSource`). */
export const positionSchema = z
  .string()
  .regex(/^[0-9A-HJKMNP-TV-Z]{26}$/, "must be a position of the log");

/** A moment of the past, as an operator names it. Without either: now. */
export const momentFields = {
  at: z
    .union([z.int().min(0).max(8.64e15), z.iso.datetime({ offset: true })])
    .transform((time) => (typeof time === "number" ? time : Date.parse(time)))
    .optional()
    .describe("As it was at that time: Unix time in ms, or ISO 8601 with a zone."),
  position: positionSchema.optional().describe("As it was right after that commit of the log."),
};
