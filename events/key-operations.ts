import * as z from "zod";
import { defaultScopes, scopeNames } from "./scopes.ts";

/**
 * What an operator asks of API keys, by the function `ops`. They are not among what a tenant's operator may
 * ask over the WebSocket: who may issue a key may do whatever a key may do, for any tenant.
 */

const by = z.string().min(1).max(200).default("operator").describe("Who asks, for the log.");
const keyId = z.string().regex(/^[0-9a-z]{16}$/, "must be the id of a key");
const name = z.string().regex(/^[^\p{Cc}]{1,200}$/u, "must be 1 to 200 printable characters");
const day = 86_400_000;

const keyOperations = [
  z
    .strictObject({
      command: z.literal("keys-create"),
      tenantId: name.describe("Whose it is: it sees what this tenant sees."),
      userId: name.optional().describe("Who uses it; its name where this is left out."),
      name: name.describe("What it is for, in your words."),
      scopes: z
        .array(z.enum(scopeNames))
        .min(1)
        .default([...defaultScopes])
        .describe("What it may do."),
      expiresAt: z
        .union([z.int().min(0).max(8.64e15), z.iso.datetime({ offset: true })])
        .transform((time) => (typeof time === "number" ? time : Date.parse(time)))
        .optional()
        .describe("Unix time in ms, or ISO 8601 with a zone; without it, it is good for ever."),
      by,
    })
    .describe("Issues a key. Its secret is in the answer, and never shown again."),
  z
    .strictObject({
      command: z.literal("keys-list"),
      tenantId: name.optional().describe("Of one tenant; of all where it is left out."),
      limit: z.int().min(1).max(1_000).default(200).describe("So many at most, the newest."),
    })
    .describe("Which keys there are, without their secrets."),
  z
    .strictObject({
      command: z.literal("keys-rotate"),
      keyId,
      graceMs: z
        .int()
        .min(0)
        .max(30 * day)
        .default(day)
        .describe("How long the secrets before the new one stay good; 0 ends them at once."),
      by,
    })
    .describe("Makes a new secret for a key. It is in the answer, and never shown again."),
  z
    .strictObject({
      command: z.literal("keys-revoke"),
      keyId,
      ...{ by, reason: z.string().max(1_000).default("").describe("Why, for the log.") },
    })
    .describe("Ends a key for ever, and the connections that it has opened."),
] as const;

const names = keyOperations.map(({ shape }) => shape.command.value).join(", ");

export const keyOperationSchema = z.discriminatedUnion("command", keyOperations, {
  error: `must be one of ${names}`,
});
export type KeyOperation = z.input<typeof keyOperationSchema>;
