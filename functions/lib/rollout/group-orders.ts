import { ClusterError } from "../../../events/cluster-port.ts";
import type { RedisClient } from "../../../events/redis-client.ts";
import { groupBeatKey, groupBeatSchema, groupDrainKey } from "../../../events/redis-keys.ts";
import { silentMs } from "../../../events/rollout-view.ts";

/** What a group is told through Redis, in every cluster alike. */
export interface GroupOrders {
  isDraining(groupId: string): Promise<boolean>;
  drain(groupId: string): Promise<void>;
  /** Whether it was told to drain, and by its heartbeat runs no turns and takes none, or is silent. */
  mayEnd(groupId: string): Promise<boolean>;
}

/** Longer than any group drains. After it nobody remembers the group's id either. */
const drainTtlSeconds = 30 * 24 * 60 * 60;

/** @returns calls that throw ClusterError unavailable while Redis is away. */
export function groupOrders(redis: RedisClient, now: () => number = Date.now): GroupOrders {
  const isDraining = (groupId: string) =>
    reached(async () => (await redis.exists(groupDrainKey(groupId))) === 1);
  return {
    isDraining,
    async drain(groupId) {
      await reached(() => redis.set(groupDrainKey(groupId), "1", "EX", drainTtlSeconds));
    },
    async mayEnd(groupId) {
      if (!(await isDraining(groupId))) return false;
      const text = await reached(() => redis.get(groupBeatKey(groupId)));
      if (text === null) return true;
      const { at, running, isAccepting } = groupBeatSchema.parse(JSON.parse(text));
      return now() - at > silentMs || (running === 0 && !isAccepting);
    },
  };
}

async function reached<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (cause) {
    throw new ClusterError("unavailable", "Redis does not answer.", cause);
  }
}
