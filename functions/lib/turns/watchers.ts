import { RedisBatch } from "../../../events/redis-batch.ts";
import type { RedisClient } from "../../../events/redis-client.ts";
import {
  connectionTurnsKey,
  turnWatchersKey,
  type WatcherProgress,
  type WatchMessage,
  watcherValue,
  watchRoute,
} from "../../../events/redis-keys.ts";
import { connectionTtlSeconds, turnTtlSeconds } from "../lifetimes.ts";

/**
 * Binds a connection to a turn: the relay that serves the connection sends what the stream holds after
 * what the connection `has`, and goes on live. Binding again moves the connection to the new place.
 */
export async function watchTurn(
  redis: RedisClient,
  turnId: string,
  connectionId: string,
  has: WatcherProgress = { sent: 0, epoch: 0 },
): Promise<void> {
  const { channel, turnsKey } = watchRoute(turnId, connectionId);
  const message: WatchMessage = { kind: "watch", turnId, connectionId, ...has };
  const watchersKey = turnWatchersKey(turnId);
  const ownKey = connectionTurnsKey(connectionId);
  const entry = watcherValue(has);
  await new RedisBatch(redis)
    .add(watchersKey, (turn) =>
      turn.hset(watchersKey, connectionId, entry).expire(watchersKey, turnTtlSeconds),
    )
    .add(turnsKey, (route) => route.sadd(turnsKey, turnId))
    .add(ownKey, (own) => own.sadd(ownKey, turnId).expire(ownKey, connectionTtlSeconds))
    // Last, so that whoever hears it finds all of the above.
    .next()
    .add(channel, (route) => route.publish(channel, JSON.stringify(message)))
    .exec();
}

/** Takes a connection out of the watchers of all its turns, and tells the relays. */
export async function unwatchAll(redis: RedisClient, connectionId: string): Promise<void> {
  const turnIds = await redis.smembers(connectionTurnsKey(connectionId));
  const batch = new RedisBatch(redis);
  for (const turnId of turnIds) {
    const key = turnWatchersKey(turnId);
    batch.add(key, (turn) => turn.hdel(key, connectionId));
  }
  const message: WatchMessage = { kind: "gone", connectionId };
  const channels = turnIds.map((turnId) => watchRoute(turnId, connectionId).channel);
  for (const channel of new Set(channels)) {
    batch.add(channel, (route) => route.publish(channel, JSON.stringify(message)));
  }
  const ownKey = connectionTurnsKey(connectionId);
  // What is left to do is found by this key, so it goes last.
  await batch
    .next()
    .add(ownKey, (own) => own.del(ownKey))
    .exec();
}
