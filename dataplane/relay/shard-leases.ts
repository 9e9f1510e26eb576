import type { Redis } from "ioredis";
import { relayShards, shardLeaseKey } from "../../events/redis-keys.ts";
import { defineScripts } from "../scripts.ts";

const shardLeaseMs = 3_000;

/**
 * Which shards this relay owns. It asks for all of them, once a second: those it has are kept, those
 * whose lease has run out are taken.
 */
export function shardLeases(
  redis: Redis,
  relayId: string,
  on: { taken: (shard: number) => Promise<void>; lost: (shard: number) => Promise<void> },
) {
  defineScripts(redis);
  const owned = new Set<number>();

  async function renew(): Promise<void> {
    const pipeline = redis.pipeline();
    for (let shard = 0; shard < relayShards; shard++) {
      pipeline.axonKeepLease(shardLeaseKey(shard), relayId, shardLeaseMs);
    }
    const results = (await pipeline.exec()) ?? [];
    for (const [shard, [error, held]] of results.entries()) {
      if (error !== null) throw error;
      if (held === 1 && !owned.has(shard)) {
        // Owned is what was taken up as a whole: a failure on the way is made good by the next renewal.
        await on.taken(shard);
        owned.add(shard);
      } else if (held !== 1 && owned.has(shard)) {
        await on.lost(shard);
        owned.delete(shard);
      }
    }
  }

  return {
    owned,
    renew,
    async release(): Promise<void> {
      const pipeline = redis.pipeline();
      for (const shard of owned) pipeline.axonKeepLease(shardLeaseKey(shard), relayId, 0);
      await pipeline.exec();
      owned.clear();
    },
  };
}
