import * as z from "zod";

/**
 * The facts about one API key, as they stand in the stream `key/<id>`. The secret is in none of them: what
 * is noted is its SHA-256, in hex. A slow hash is for passwords that people choose; these secrets are 256
 * random bits, which nobody finds by trying.
 */

const base = {
  version: z.literal(1),
  at: z.int().min(0),
  keyId: z.string(),
  /** Who asked for it. */
  by: z.string(),
};

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const keyIssuedSchema = z.strictObject({
  type: z.literal("KeyIssued"),
  ...base,
  tenantId: z.string(),
  userId: z.string(),
  /** What it is for, in people's words. */
  name: z.string(),
  /** As text, so that a version that knows fewer scopes can read them: it passes over the others. */
  scopes: z.array(z.string()),
  sha256,
  /** Unix ms; it is good for ever where it is left out. */
  expiresAt: z.int().min(0).optional(),
});

const keyRotatedSchema = z.strictObject({
  type: z.literal("KeyRotated"),
  ...base,
  /** Of the new secret. */
  sha256,
  /** Unix ms: no secret before this one is good from then on. */
  olderUntil: z.int().min(0),
});

const keyRevokedSchema = z.strictObject({
  type: z.literal("KeyRevoked"),
  ...base,
  reason: z.string(),
});

export const apiKeyEventSchema = z.discriminatedUnion("type", [
  keyIssuedSchema,
  keyRotatedSchema,
  keyRevokedSchema,
]);

export type ApiKeyEvent = z.infer<typeof apiKeyEventSchema>;
