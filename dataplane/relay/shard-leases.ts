import { RedisBatch } from "../../events/redis-batch.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import { relayShards, shardLeaseKey } from "../../events/redis-keys.ts";
import { defineScripts } from "../scripts.ts";

/** With a renewal every second, a dead relay's shards have another owner within 3 s. */
const shardLeaseMs = 1_900;

/**
 * Which shards this relay owns. Once a second it renews the leases of those it has, and takes free ones
 * up to its share of all; of what it has above that it gives one back at a time.
 */
export function shardLeases(
  redis: RedisClient,
  relayId: string,
  on: { taken: (shard: number) => Promise<void>; lost: (shard: number) => Promise<void> },
) {
  defineScripts(redis);
  const owned = new Set<number>();

  const keep = async (shards: readonly number[], leaseMs: number): Promise<Set<number>> => {
    const batch = new RedisBatch(redis);
    for (const key of shards.map(shardLeaseKey)) {
      batch.add(key, (lease) => lease.axonKeepLease(key, relayId, leaseMs));
    }
    const replies = await batch.exec();
    return new Set(shards.filter((_, i) => replies[i] === 1));
  };

  /** Owned is what was taken up as a whole: a failure on the way is made good by the next renewal. */
  async function tryToOwn(shard: number): Promise<void> {
    if (!(await keep([shard], shardLeaseMs)).has(shard)) return;
    await on.taken(shard);
    owned.add(shard);
  }

  async function renew(relays = 1): Promise<void> {
    const share = Math.ceil(relayShards / Math.max(1, relays));
    const kept = await keep([...owned], shardLeaseMs);
    for (const shard of [...owned].filter((one) => !kept.has(one))) {
      await on.lost(shard);
      owned.delete(shard);
    }
    // Each relay begins to look at another place, so that they do not all ask for the same.
    const first = Number.parseInt(relayId.slice(-2), 36) % relayShards;
    for (let i = 0; i < relayShards && owned.size < share; i++) {
      const shard = (first + i) % relayShards;
      if (!owned.has(shard)) await tryToOwn(shard);
    }
    const [surplus] = owned;
    if (owned.size > share && surplus !== undefined) {
      await on.lost(surplus);
      owned.delete(surplus);
      await keep([surplus], 0);
    }
  }

  return {
    owned,
    renew,
    async release(): Promise<void> {
      await keep([...owned], 0);
      owned.clear();
    },
  };
}
