import type { Redis } from "ioredis";
import { type RedisClient, redisSubscriber } from "../../../events/redis-client.ts";
import { turnChannel } from "../../../events/redis-keys.ts";

/** Tells that something was said of a turn. What it was stands in the turn's stream. */
export interface Bell {
  /** Waits for a ring, `ms` at most, or until `gone`; not at all if it has rung since the last wait. */
  wait(ms: number, gone?: AbortSignal): Promise<void>;
  /** Stops listening; once more does nothing. */
  close(): void;
}

export interface TurnBells {
  listen(turnId: string): Bell;
}

/**
 * The notifications of turns for whoever reads streams in this process, through one connection for all
 * of them. It is closed when nobody reads any more: between two invocations of a Lambda it would die
 * unnoticed. A lost notification loses nothing; a reader looks into the stream from time to time.
 */
export function turnBells(redis: RedisClient): TurnBells {
  const channels = new Map<string, Set<() => void>>();
  let subscriber: Redis | undefined;

  const ring = (channel: string) => {
    for (const one of channels.get(channel) ?? []) one();
  };

  function connected(): Redis {
    if (subscriber !== undefined) return subscriber;
    subscriber = redisSubscriber(redis);
    // The stream is read from a client that tells of its own failures.
    subscriber.on("error", () => {});
    subscriber.on("message", ring);
    // What was said while it was away was not heard.
    subscriber.on("ready", () => {
      for (const channel of channels.keys()) ring(channel);
    });
    return subscriber;
  }

  function leave(channel: string, one: () => void): void {
    const others = channels.get(channel);
    others?.delete(one);
    if (others === undefined || others.size > 0) return;
    channels.delete(channel);
    if (channels.size > 0) {
      subscriber?.unsubscribe(channel).catch(() => {});
      return;
    }
    subscriber?.disconnect();
    subscriber = undefined;
  }

  return {
    listen(turnId) {
      const channel = turnChannel(turnId);
      const { ring: one, wait } = waiter();
      const others = channels.get(channel);
      if (others !== undefined) others.add(one);
      else channels.set(channel, new Set([one]));
      // Also where others listen: commands keep their order, so this one is answered after theirs. What was
      // said before the answer may not have been heard.
      connected()
        .subscribe(channel)
        .then(one, () => {});
      return { wait, close: () => leave(channel, one) };
    },
  };
}

/** Something that can be rung, and waited for by one at a time. */
function waiter(): Pick<Bell, "wait"> & { ring(): void } {
  let isRung = false;
  let waiting: (() => void) | undefined;
  return {
    ring() {
      isRung = true;
      waiting?.();
    },
    async wait(ms, gone) {
      if (!isRung && !gone?.aborted) {
        const { promise, resolve } = Promise.withResolvers<void>();
        const timer = setTimeout(resolve, ms);
        const leaveIt = () => resolve();
        gone?.addEventListener("abort", leaveIt, { once: true });
        waiting = resolve;
        await promise;
        waiting = undefined;
        clearTimeout(timer);
        gone?.removeEventListener("abort", leaveIt);
      }
      // Whatever has rung it until here stands in the stream by now.
      isRung = false;
    },
  };
}
