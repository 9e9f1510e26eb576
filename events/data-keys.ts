/**
 * The data keys: one a conversation. All of its words in the log are sealed with it, so destroying it erases
 * them wherever they stand, in backups of the log, too.
 */

/** Whose key it is. The tenant is noted so that all keys of a tenant can be found. */
export interface KeyOwner {
  conversationId: string;
  tenantId: string;
}

/** 32 bytes, or that there will never be one again. */
export type DataKey = Buffer | "erased";

/** What reading and writing words needs of the keys. */
export interface DataKeys {
  /** The conversation's key; makes one where there is none. `isNew` says that there is hardly one. */
  forWriting(owner: KeyOwner, isNew?: boolean): Promise<DataKey>;
  /** Those that there are, by conversation. */
  find(conversationIds: readonly string[]): Promise<Map<string, DataKey>>;
}

/** What erasing needs of the keys, and nobody else is allowed to. */
export interface DataKeyRegister {
  /** Destroys the key, and bars another. Once more changes nothing. @param at Unix ms */
  destroy(conversationId: string, at: number): Promise<void>;
  /** Conversations of the tenant whose key exists, in the order of their ids, up to `limit` after `after`. */
  ofTenant(tenantId: string, after: string, limit: number): Promise<string[]>;
}

/** So long at most a process can open words whose key was destroyed by another. */
const keyCacheMs = 30_000;
const mostCached = 10_000;

/** Data keys of which some are kept in memory. */
export interface CachedDataKeys extends DataKeys {
  /** The next one who needs the key asks again. */
  forget(conversationId: string): void;
}

/** Keeps keys in memory for a moment. What is erased stays so, and is kept, too. */
export function cachedDataKeys(
  keys: DataKeys,
  { ttlMs = keyCacheMs, now = Date.now }: { ttlMs?: number; now?: () => number } = {},
): CachedDataKeys {
  const cached = new Map<string, { key: DataKey; until: number }>();

  function known(conversationId: string): DataKey | undefined {
    const entry = cached.get(conversationId);
    if (entry === undefined) return undefined;
    if (entry.key === "erased" || now() < entry.until) return entry.key;
    cached.delete(conversationId);
    return undefined;
  }

  /** @param askedAt when the answer was asked for: it is no newer than that. */
  function keep(conversationId: string, key: DataKey, askedAt: number): void {
    if (cached.get(conversationId)?.key === "erased") return;
    cached.delete(conversationId);
    cached.set(conversationId, { key, until: askedAt + ttlMs });
    // A Map keeps the order of writing, so the first is the oldest.
    const [oldest] = cached.keys();
    if (cached.size > mostCached && oldest !== undefined) cached.delete(oldest);
  }

  return {
    async forWriting(owner, isNew) {
      const found = known(owner.conversationId);
      if (found !== undefined) return found;
      const askedAt = now();
      const key = await keys.forWriting(owner, isNew);
      keep(owner.conversationId, key, askedAt);
      return key;
    },
    async find(conversationIds) {
      const found = new Map<string, DataKey>();
      const missing: string[] = [];
      for (const id of new Set(conversationIds)) {
        const key = known(id);
        if (key === undefined) missing.push(id);
        else found.set(id, key);
      }
      if (missing.length === 0) return found;
      const askedAt = now();
      for (const [id, key] of await keys.find(missing)) {
        keep(id, key, askedAt);
        found.set(id, key);
      }
      return found;
    },
    forget(conversationId) {
      cached.delete(conversationId);
    },
  };
}
