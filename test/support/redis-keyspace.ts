import { Cluster, type Redis } from "ioredis";
import type { RedisClient } from "../../events/redis-client.ts";

/** The servers that hold keys: one, or those of a cluster. */
const holders = (redis: RedisClient): Redis[] =>
  redis instanceof Cluster ? redis.nodes("master") : [redis];

export async function keysIn(redis: RedisClient, pattern: string): Promise<string[]> {
  return (await Promise.all(holders(redis).map((server) => server.keys(pattern)))).flat();
}

/** Empties it. */
export async function emptyAll(redis: RedisClient): Promise<void> {
  await Promise.all(holders(redis).map((server) => server.flushdb()));
}
