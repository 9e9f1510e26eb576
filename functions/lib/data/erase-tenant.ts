import * as z from "zod";
import type { Database } from "../database.ts";
import type { RequestLog } from "../request-log.ts";
import { type EraseDeps, eraseConversation } from "./erase-conversation.ts";

/** How far the erasure of a tenant has got. */
export interface TenantErasure {
  /** Conversations that this step has erased. */
  erased: number;
  /** Turns that have not ended yet, of which Redis has words until they do. */
  running: string[];
  /** Where to go on; null when there was none left. */
  next: string | null;
}

const atOnce = 50;

/**
 * Erases a tenant's conversations, one after the other, until the time is over. They are found by their keys,
 * of which there is one from the first word on, and, for those of before there were keys, in PostgreSQL.
 */
export async function eraseTenant(
  deps: EraseDeps,
  { tenantId, after, until }: { tenantId: string; after: string; until: number },
  log: RequestLog,
): Promise<TenantErasure> {
  log.add({ tenantId });
  const done: TenantErasure = { erased: 0, running: [], next: after };
  for (let place = after; ; ) {
    const ids = await conversationsOf(deps, tenantId, place);
    if (ids.length === 0) return { ...done, next: null };
    for (const conversationId of ids) {
      if (deps.now() >= until) return { ...done, next: place };
      const { running } = await eraseFound(deps, conversationId, tenantId, log);
      done.erased++;
      if (running !== null) done.running.push(running);
      place = conversationId;
    }
  }
}

/** A key without a conversation was made for a first turn that was never added: it goes, too. */
async function eraseFound(
  deps: EraseDeps,
  conversationId: string,
  tenantId: string,
  log: RequestLog,
): Promise<{ running: string | null }> {
  const commits = await deps.log.read(`conversation/${conversationId}`);
  if (commits.length > 0) {
    return eraseConversation(deps, { conversationId, tenantId, until: deps.now() }, log.fork());
  }
  await deps.keyRegister.destroy(conversationId, deps.now());
  deps.dataKeys.forget(conversationId);
  return { running: null };
}

async function conversationsOf(
  { database, keyRegister }: EraseDeps,
  tenantId: string,
  after: string,
): Promise<string[]> {
  const [withKey, told] = await Promise.all([
    keyRegister.ofTenant(tenantId, after, atOnce),
    toldConversations(database, tenantId, after),
  ]);
  return [...new Set([...withKey, ...told])].sort().slice(0, atOnce);
}

async function toldConversations(database: Database, tenantId: string, after: string) {
  const { rows } = await database.query(
    `SELECT id FROM conversations
     WHERE tenant_id = $1 AND erased_at IS NULL AND id COLLATE "C" > $2
     ORDER BY id COLLATE "C" LIMIT $3`,
    [tenantId, after, atOnce],
  );
  return z
    .array(z.object({ id: z.string() }))
    .parse(rows)
    .map(({ id }) => id);
}
