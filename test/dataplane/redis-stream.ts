import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import { readEntries, tokenStream } from "../../dataplane/token-stream.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import {
  type TurnMessage,
  turnChannel,
  turnKey,
  turnMessageSchema,
  turnTokensKey,
  turnWatchersKey,
} from "../../events/redis-keys.ts";
import { emptyAll, keysIn } from "../support/redis-keyspace.ts";
import type { StreamHarness } from "./token-stream.contract.ts";

/** The token stream in a Redis, or a cluster of them; `listener` is a connection to subscribe with. */
export function streamOnRedis(redis: RedisClient, listener: Redis): StreamHarness {
  return {
    stream: tokenStream(redis),
    async stored(turnId) {
      const { tokens, end } = readEntries(await redis.xrange(turnTokensKey(turnId), "-", "+"));
      return { tokens, end };
    },
    async listen(turnId) {
      const heard: TurnMessage[] = [];
      listener.on("message", (channel, text) => {
        if (channel === turnChannel(turnId)) heard.push(turnMessageSchema.parse(JSON.parse(text)));
      });
      await listener.subscribe(turnChannel(turnId));
      return () => heard;
    },
    pass: (ms) => sleep(ms),
    wishCancel: async (turnId, reason) =>
      void (await redis.hset(turnKey(turnId), "cancel", reason)),
    watch: async (turnId) => void (await redis.hset(turnWatchersKey(turnId), "connection", "0:0")),
    unwatch: async (turnId) => void (await redis.hdel(turnWatchersKey(turnId), "connection")),
    loseAll: async () => void (await emptyAll(redis)),
    async snapshot() {
      const keys = await keysIn(redis, "*");
      const contents = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
      return async () => {
        await emptyAll(redis);
        for (const [i, key] of keys.entries()) await redis.restore(key, 0, contents[i] ?? "");
      };
    },
  };
}
