import { z } from "zod";
import { RedisBatch } from "../../events/redis-batch.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import {
  relayConnectionId,
  relaysKey,
  relayTurnsKey,
  turnWatchersKey,
} from "../../events/redis-keys.ts";

/** A relay that was not heard of for this long is gone. */
const goneMs = 5_000;

/**
 * Which relays there are. Each notes once a second that it lives; whoever finds one that does not any
 * more clears up after it: the connections to its front door are closed, and watch nothing.
 */
export function relayPresence(redis: RedisClient, relayId: string) {
  async function clearUp(deadId: string): Promise<void> {
    const prefix = relayConnectionId(deadId, "");
    for (const turnId of await redis.smembers(relayTurnsKey(deadId))) {
      const key = turnWatchersKey(turnId);
      const closed = (await redis.hkeys(key)).filter((id) => id.startsWith(prefix));
      if (closed.length > 0) await redis.hdel(key, ...closed);
    }
    await redis.del(relayTurnsKey(deadId));
    // Last: until then the next beat finds it dead, and goes on with this.
    await redis.zrem(relaysKey, deadId);
  }

  return {
    /** @returns how many relays live, this one among them. */
    async beat(): Promise<number> {
      const [seconds] = z.tuple([z.coerce.number(), z.unknown()]).parse(await redis.time());
      const now = seconds * 1_000;
      const [, dead, living] = z.tuple([z.unknown(), z.array(z.string()), z.number()]).parse(
        await new RedisBatch(redis)
          .add(relaysKey, (relays) =>
            relays
              .zadd(relaysKey, now, relayId)
              .zrangebyscore(relaysKey, "-inf", now - goneMs)
              .zcount(relaysKey, now - goneMs + 1, "+inf"),
          )
          .exec(),
      );
      for (const deadId of dead) await clearUp(deadId);
      return living;
    },

    async leave(): Promise<void> {
      await clearUp(relayId);
    },
  };
}
