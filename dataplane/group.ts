import { RedisBatch } from "../events/redis-batch.ts";
import type { RedisClient } from "../events/redis-client.ts";
import { groupKey, groupsKey } from "../events/redis-keys.ts";

/** A group that has not been heard of for this long is gone. */
const groupTtlMs = 3_000;

/** A group that was killed stays in its revision's index until then. */
const indexTtlSeconds = 60;

/**
 * Shows a living group in Redis, once a second, for whoever wants to know which there are, and how many
 * turns they can run.
 * @returns a function that takes the group out of sight.
 */
export function announceGroup(
  redis: RedisClient,
  groupId: string,
  describe: () => { revision: string } & Record<string, string | number>,
): () => Promise<void> {
  const key = groupKey(groupId);
  const index = groupsKey(describe().revision);
  const beat = async () => {
    const now = Date.now();
    await new RedisBatch(redis)
      .add(key, (group) => group.hset(key, describe()).pexpire(key, groupTtlMs))
      .add(index, (groups) =>
        groups
          .zadd(index, now, groupId)
          // By clocks that differ somewhat; whether a group lives is told by its hash alone.
          .zremrangebyscore(index, "-inf", now - indexTtlSeconds * 1_000)
          .expire(index, indexTtlSeconds),
      )
      .exec();
  };
  // A missed beat is made up by the next one; leases and epochs decide what matters.
  const timer = setInterval(() => void beat().catch(() => {}), groupTtlMs / 3);
  void beat().catch(() => {});
  return async () => {
    clearInterval(timer);
    await new RedisBatch(redis)
      .add(key, (group) => group.del(key))
      .add(index, (groups) => groups.zrem(index, groupId))
      .exec();
  };
}
