import * as z from "zod";
import type { KnownApiKey } from "../../../events/api-key.ts";
import { apiKeyStream, type Commit } from "../../../events/event-log.ts";
import type { Database } from "../database.ts";

/** The id of the API key whose stream a commit is of. */
export function keyOf({ stream }: Pick<Commit, "stream">): string | undefined {
  const prefix = apiKeyStream("");
  return stream.startsWith(prefix) ? stream.slice(prefix.length) : undefined;
}

const time = (ms: number | undefined): Date | null => (ms === undefined ? null : new Date(ms));

/** Writes what people may see of a key. @param version of its stream, up to which `key` was read at least. */
export async function tellApiKey(
  database: Database,
  key: KnownApiKey,
  version: number,
): Promise<void> {
  await database.query(
    `INSERT INTO api_keys (id, tenant_id, user_id, name, scopes, issued_at, rotated_at, older_until,
       expires_at, revoked_at, log_version)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
     ON CONFLICT (id) DO UPDATE SET rotated_at = $7, older_until = $8, revoked_at = $10,
       log_version = $11
     WHERE api_keys.log_version < $11`,
    [
      ...[key.keyId, key.tenantId, key.userId, key.name, key.scopes, time(key.issuedAt)],
      ...[time(key.rotatedAt), time(key.secrets.at(-2)?.goodUntil), time(key.expiresAt)],
      ...[time(key.revokedAt), version],
    ],
  );
}

/** What an operator is shown of a key. Times are Unix ms; what is not, or is not so, is null. */
export interface KeyAnswer {
  keyId: string;
  tenantId: string;
  userId: string;
  name: string;
  scopes: readonly string[];
  status: "good" | "expired" | "revoked";
  issuedAt: number;
  rotatedAt: number | null;
  /** Until when secrets from before the last rotation are good. */
  olderUntil: number | null;
  expiresAt: number | null;
  revokedAt: number | null;
}

export function keyAnswer(key: KnownApiKey, now: number): KeyAnswer {
  const { keyId, tenantId, userId, name, scopes, issuedAt } = key;
  const { rotatedAt = null, expiresAt = null, revokedAt = null, secrets } = key;
  const olderUntil = secrets.at(-2)?.goodUntil ?? null;
  const times = { issuedAt, rotatedAt, olderUntil, expiresAt, revokedAt };
  return { keyId, tenantId, userId, name, scopes, status: statusOf(times, now), ...times };
}

function statusOf(
  { revokedAt, expiresAt }: Pick<KeyAnswer, "revokedAt" | "expiresAt">,
  now: number,
): KeyAnswer["status"] {
  if (revokedAt !== null) return "revoked";
  return expiresAt !== null && expiresAt <= now ? "expired" : "good";
}

const moment = z.date().transform((date) => date.getTime());
const rowsSchema = z.array(
  z.object({
    id: z.string(),
    tenant_id: z.string(),
    user_id: z.string(),
    name: z.string(),
    scopes: z.array(z.string()),
    issued_at: moment,
    rotated_at: moment.nullable(),
    older_until: moment.nullable(),
    expires_at: moment.nullable(),
    revoked_at: moment.nullable(),
  }),
);

/** The keys of a tenant, or of all, newest first, as far as the projection has got. */
export async function listKeys(
  database: Database,
  { tenantId, limit }: { tenantId: string | undefined; limit: number },
  now: number,
): Promise<KeyAnswer[]> {
  const { rows } = await database.query(
    `SELECT id, tenant_id, user_id, name, scopes, issued_at, rotated_at, older_until, expires_at,
       revoked_at
     FROM api_keys WHERE $1::text IS NULL OR tenant_id = $1
     ORDER BY issued_at DESC, id LIMIT $2`,
    [tenantId ?? null, limit],
  );
  return rowsSchema.parse(rows).map((row) => {
    const times = {
      ...{ issuedAt: row.issued_at, rotatedAt: row.rotated_at, olderUntil: row.older_until },
      ...{ expiresAt: row.expires_at, revokedAt: row.revoked_at },
    };
    const { id: keyId, tenant_id, user_id, name, scopes } = row;
    const whose = { keyId, tenantId: tenant_id, userId: user_id, name, scopes };
    return { ...whose, status: statusOf(times, now), ...times };
  });
}
