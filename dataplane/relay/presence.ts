import type { Redis } from "ioredis";
import { z } from "zod";
import {
  relayConnectionId,
  relaysKey,
  relayTurnsKey,
  turnWatchersKey,
} from "../../events/redis-keys.ts";
import { repliesOf } from "../redis-replies.ts";

/** A relay that was not heard of for this long is gone. */
const goneMs = 5_000;

/**
 * Which relays there are. Each notes once a second that it lives; whoever finds one that does not any
 * more clears up after it: the connections to its front door are closed, and watch nothing.
 */
export function relayPresence(redis: Redis, relayId: string) {
  async function clearUp(deadId: string): Promise<void> {
    const prefix = relayConnectionId(deadId, "");
    for (const turnId of await redis.smembers(relayTurnsKey(deadId))) {
      const key = turnWatchersKey(turnId);
      const closed = (await redis.hkeys(key)).filter((id) => id.startsWith(prefix));
      if (closed.length > 0) await redis.hdel(key, ...closed);
    }
    await redis.pipeline().del(relayTurnsKey(deadId)).zrem(relaysKey, deadId).exec();
  }

  return {
    /** @returns how many relays live, this one among them. */
    async beat(): Promise<number> {
      const [seconds] = z.tuple([z.coerce.number(), z.unknown()]).parse(await redis.time());
      const now = seconds * 1_000;
      const [, dead, living] = z.tuple([z.unknown(), z.array(z.string()), z.number()]).parse(
        repliesOf(
          await redis
            .pipeline()
            .zadd(relaysKey, now, relayId)
            .zrangebyscore(relaysKey, "-inf", now - goneMs)
            .zcount(relaysKey, now - goneMs + 1, "+inf")
            .exec(),
        ),
      );
      for (const deadId of dead) await clearUp(deadId);
      return living;
    },

    async leave(): Promise<void> {
      await clearUp(relayId);
    },
  };
}
