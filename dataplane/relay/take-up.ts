import { z } from "zod";
import { RedisBatch } from "../../events/redis-batch.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import {
  parseWatcherValue,
  relayOf,
  relayTurnsKey,
  shardTurnsKey,
  turnWatchersKey,
  type WatcherProgress,
} from "../../events/redis-keys.ts";
import type { Delivery } from "./delivery.ts";

/**
 * Finds watchers by what is noted of them in Redis: those of a shard that another relay had before, and
 * those whose announcement nobody could hear. Each is served on from where it has got.
 */
export function takeUp(redis: RedisClient, relayId: string, delivery: Delivery) {
  async function from(
    turnsKey: string,
    isOurs: (connectionId: string) => boolean,
    isServed: () => boolean = () => true,
  ): Promise<void> {
    for (const [turnId, watchers] of await notedWatchers(redis, turnsKey)) {
      if (!isServed()) return;
      const ours = watchers.filter(([connectionId]) => isOurs(connectionId));
      if (ours.length === 0) await redis.srem(turnsKey, turnId);
      for (const [connectionId, has] of ours) {
        if (!delivery.knows(turnId, connectionId)) delivery.watch(turnId, connectionId, has);
      }
    }
  }
  const isOfGateway = (connectionId: string) => relayOf(connectionId) === undefined;
  return {
    shard: (shard: number) => from(shardTurnsKey(shard), isOfGateway),
    /** What the relay's shards and its own door have. A shard may be lost meanwhile. */
    async all(owned: ReadonlySet<number>): Promise<void> {
      for (const shard of [...owned]) {
        await from(shardTurnsKey(shard), isOfGateway, () => owned.has(shard));
      }
      await from(relayTurnsKey(relayId), (connectionId) => relayOf(connectionId) === relayId);
    },
  };
}

type NotedTurn = [turnId: string, watchers: [connectionId: string, has: WatcherProgress][]];

async function notedWatchers(redis: RedisClient, turnsKey: string): Promise<NotedTurn[]> {
  const turnIds = await redis.smembers(turnsKey);
  if (turnIds.length === 0) return [];
  const batch = new RedisBatch(redis);
  for (const key of turnIds.map(turnWatchersKey)) batch.add(key, (turn) => turn.hgetall(key));
  const replies = await batch.exec();
  return turnIds.map((turnId, i) => {
    const values = Object.entries(z.record(z.string(), z.string()).parse(replies[i]));
    return [turnId, values.map(([id, value]) => [id, parseWatcherValue(value)])];
  });
}
