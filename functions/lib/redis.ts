import type { Logger } from "@aws-lambda-powertools/logger";
import * as z from "zod";
import { type RedisClient, redisClient, redisUrlSchema } from "../../events/redis-client.ts";
import { provider } from "./provider.ts";
import { failureForLog } from "./request-log.ts";

export const redis = provider(
  ["redis"],
  z.object({ REDIS_URL: redisUrlSchema }),
  ({ REDIS_URL }, logger) => ({ redis: lazyRedis(REDIS_URL, logger) }),
);

/** A client that dials when it is needed, and whose commands fail within seconds while Redis is away. */
export function lazyRedis(url: string, logger: Logger): RedisClient {
  const client = redisClient(url, {
    lazyConnect: true,
    connectTimeout: 2_000,
    socketTimeout: 2_000,
    maxRetriesPerRequest: 2,
    retryStrategy: (attempt) => Math.min(50 * 2 ** attempt, 1_000),
  });
  // The error of a refused login names the password: nothing of it is logged but what is known to be safe.
  client.on("error", (error) => logger.warn("Redis is away", { failure: failureForLog(error) }));
  return client;
}
