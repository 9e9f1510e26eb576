import type { Redis } from "ioredis";
import { groupKey } from "../events/redis-keys.ts";

/** A group that has not been heard of for this long is gone. */
const groupTtlMs = 3_000;

/**
 * Shows a living group in Redis, once a second, for whoever wants to know which there are.
 * @returns a function that takes the group out of sight.
 */
export function announceGroup(
  redis: Redis,
  groupId: string,
  describe: () => Record<string, string | number>,
): () => Promise<void> {
  const key = groupKey(groupId);
  const beat = async () => {
    await redis.pipeline().hset(key, describe()).pexpire(key, groupTtlMs).exec();
  };
  // A missed beat is made up by the next one; leases and epochs decide what matters.
  const timer = setInterval(() => void beat().catch(() => {}), groupTtlMs / 3);
  void beat().catch(() => {});
  return async () => {
    clearInterval(timer);
    await redis.del(key);
  };
}
