import type { Redis } from "ioredis";
import {
  connectionTurnsKey,
  turnWatchersKey,
  type WatcherProgress,
  type WatchMessage,
  watcherValue,
  watchRoute,
} from "../../events/redis-keys.ts";
import { connectionTtlSeconds, turnTtlSeconds } from "./lifetimes.ts";

/**
 * Binds a connection to a turn: the relay that serves the connection sends what the stream holds after
 * what the connection `has`, and goes on live. Binding again moves the connection to the new place.
 */
export async function watchTurn(
  redis: Redis,
  turnId: string,
  connectionId: string,
  has: WatcherProgress = { sent: 0, epoch: 0 },
): Promise<void> {
  const { channel, turnsKey } = watchRoute(turnId, connectionId);
  const message: WatchMessage = { kind: "watch", turnId, connectionId, ...has };
  await run(
    redis
      .pipeline()
      .hset(turnWatchersKey(turnId), connectionId, watcherValue(has))
      .expire(turnWatchersKey(turnId), turnTtlSeconds)
      .sadd(turnsKey, turnId)
      .sadd(connectionTurnsKey(connectionId), turnId)
      .expire(connectionTurnsKey(connectionId), connectionTtlSeconds)
      // Last, so that whoever hears it finds all of the above.
      .publish(channel, JSON.stringify(message)),
  );
}

/** Takes a connection out of the watchers of all its turns, and tells the relays. */
export async function unwatchAll(redis: Redis, connectionId: string): Promise<void> {
  const turnIds = await redis.smembers(connectionTurnsKey(connectionId));
  const pipeline = redis.pipeline();
  for (const turnId of turnIds) pipeline.hdel(turnWatchersKey(turnId), connectionId);
  const message: WatchMessage = { kind: "gone", connectionId };
  const channels = turnIds.map((turnId) => watchRoute(turnId, connectionId).channel);
  for (const channel of new Set(channels)) pipeline.publish(channel, JSON.stringify(message));
  pipeline.del(connectionTurnsKey(connectionId));
  await run(pipeline);
}

/** @throws the first error in the pipeline, which `exec` itself would keep to its results. */
async function run(pipeline: ReturnType<Redis["pipeline"]>): Promise<void> {
  for (const [error] of (await pipeline.exec()) ?? []) {
    if (error !== null) throw error;
  }
}
