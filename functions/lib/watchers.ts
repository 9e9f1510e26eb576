import type { Redis } from "ioredis";
import {
  connectionTurnsKey,
  relayShardOf,
  type ShardMessage,
  shardChannel,
  shardTurnsKey,
  turnWatchersKey,
} from "../../events/redis-keys.ts";
import { connectionTtlSeconds, turnTtlSeconds } from "./lifetimes.ts";

/**
 * Binds a connection to a turn: the relay that owns the turn's shard sends what the stream holds
 * after `after`, and goes on live. Binding again moves the connection to the new place.
 */
export async function watchTurn(
  redis: Redis,
  turnId: string,
  connectionId: string,
  after: number,
): Promise<void> {
  const shard = relayShardOf(turnId);
  const message: ShardMessage = { kind: "watch", turnId, connectionId, after };
  await run(
    redis
      .pipeline()
      .hset(turnWatchersKey(turnId), connectionId, after)
      .expire(turnWatchersKey(turnId), turnTtlSeconds)
      .sadd(shardTurnsKey(shard), turnId)
      .sadd(connectionTurnsKey(connectionId), turnId)
      .expire(connectionTurnsKey(connectionId), connectionTtlSeconds)
      // Last, so that whoever hears it finds all of the above.
      .publish(shardChannel(shard), JSON.stringify(message)),
  );
}

/** Takes a connection out of the watchers of all its turns, and tells the relays. */
export async function unwatchAll(redis: Redis, connectionId: string): Promise<void> {
  const turnIds = await redis.smembers(connectionTurnsKey(connectionId));
  const pipeline = redis.pipeline();
  for (const turnId of turnIds) pipeline.hdel(turnWatchersKey(turnId), connectionId);
  const message: ShardMessage = { kind: "gone", connectionId };
  for (const shard of new Set(turnIds.map(relayShardOf))) {
    pipeline.publish(shardChannel(shard), JSON.stringify(message));
  }
  pipeline.del(connectionTurnsKey(connectionId));
  await run(pipeline);
}

/** @throws the first error in the pipeline, which `exec` itself would keep to its results. */
async function run(pipeline: ReturnType<Redis["pipeline"]>): Promise<void> {
  for (const [error] of (await pipeline.exec()) ?? []) {
    if (error !== null) throw error;
  }
}
