import { RedisBatch } from "../events/redis-batch.ts";
import type { RedisClient } from "../events/redis-client.ts";
import {
  type GroupBeat,
  groupBeatKey,
  groupDrainKey,
  groupKey,
  groupsKey,
  rotationKey,
  rotationSchema,
} from "../events/redis-keys.ts";

/** A group that has not been heard of for this long is gone. */
const groupTtlMs = 3_000;

/** A group that was killed stays in its revision's index, and its last beat is kept, until then. */
const indexTtlSeconds = 60;

export interface Announced extends Omit<GroupBeat, "at" | "tokensPerSecond"> {
  leaderId: string;
  /** That it has written since its start. */
  tokens: number;
}

interface GroupOrders {
  /** It is to take no new turns. */
  drained: () => void;
  /** Its leader is to end its turns, and to be started again. Called once. */
  rotated: () => void;
}

/**
 * Shows a living group in Redis, once a second, for whoever wants to know which there are, and how many
 * turns they can run; and hears there whether it is to take no new ones.
 * @returns a function that takes the group out of sight.
 */
export function announceGroup(
  redis: RedisClient,
  groupId: string,
  { describe, drained, rotated }: { describe: () => Announced } & GroupOrders,
): () => Promise<void> {
  const key = groupKey(groupId);
  const beatKey = groupBeatKey(groupId);
  const index = groupsKey(describe().revision);
  let before = { at: Date.now(), tokens: describe().tokens };
  let isRotated = false;
  const hear = async () => {
    const [isDraining, isRotating] = await Promise.all([
      isToDrain(redis, groupId),
      isToRotate(redis, groupId, describe()),
    ]);
    if (isDraining) drained();
    if (!isRotating || isRotated) return;
    isRotated = true;
    rotated();
  };
  const beat = async () => {
    await hear();
    const at = Date.now();
    const { leaderId, isAccepting, kvUse, tokens, ...facts } = describe();
    const sinceMs = at - before.at;
    const tokensPerSecond = sinceMs > 0 ? ((tokens - before.tokens) / sinceMs) * 1_000 : 0;
    before = { at, tokens };
    const said: GroupBeat = { at, isAccepting, kvUse, tokensPerSecond, ...facts };
    await new RedisBatch(redis)
      .add(key, (group) => group.hset(key, { leaderId, ...facts }).pexpire(key, groupTtlMs))
      .add(beatKey, (group) =>
        group.set(beatKey, JSON.stringify(said)).expire(beatKey, indexTtlSeconds),
      )
      .add(index, (groups) =>
        groups
          .zadd(index, at, groupId)
          // By clocks that differ somewhat; whether a group lives is told by its hash alone.
          .zremrangebyscore(index, "-inf", at - indexTtlSeconds * 1_000)
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
      .add(beatKey, (group) => group.del(beatKey))
      .add(index, (groups) => groups.zrem(index, groupId))
      .exec();
  };
}

/** Whether its leader is to be started again, and was not since it was told. */
async function isToRotate(
  redis: RedisClient,
  groupId: string,
  { revision, epoch }: Announced,
): Promise<boolean> {
  const text = await redis.get(rotationKey(revision));
  if (text === null) return false;
  const rotation = rotationSchema.parse(JSON.parse(text));
  return rotation.groupId === groupId && epoch <= rotation.epoch;
}

/** Whether the group was told to take no new turns, now or before it was started. */
export async function isToDrain(redis: RedisClient, groupId: string): Promise<boolean> {
  return (await redis.exists(groupDrainKey(groupId))) === 1;
}
