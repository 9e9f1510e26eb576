import * as z from "zod";
import { AxonError } from "../../events/errors.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import { rateKey } from "../../events/redis-keys.ts";
import { provider } from "./provider.ts";
import { runScript } from "./redis-script.ts";

/** What a tenant may ask for: so many turns a minute, and so many at once after a quiet while. */
export interface RateLimit {
  perMinute: number;
  burst: number;
}

export const rateLimit = provider(
  ["rate"],
  z.object({
    /** Turns that one tenant may ask for, a minute and at once. */
    AXON_RATE_PER_MINUTE: z.coerce.number().positive().default(600),
    AXON_RATE_BURST: z.coerce.number().int().min(1).default(120),
  }),
  (env) => ({ rate: { perMinute: env.AXON_RATE_PER_MINUTE, burst: env.AXON_RATE_BURST } }),
);

const takeToken = `
-- Takes one token out of a tenant's bucket.
-- Guarantee: within any minute a bucket gives at most its burst plus its rate, whoever asks.
-- KEYS: 1 the bucket
-- ARGV: 1 tokens a minute, 2 the most tokens it holds
-- Returns 0 when a token was taken, else after how many ms there is one
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local perMs = tonumber(ARGV[1]) / 60000
local burst = tonumber(ARGV[2])
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'refilledAtMs')
local tokens = tonumber(bucket[1]) or burst
local refilledAt = tonumber(bucket[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - refilledAt) * perMs)
local wait = 0
if tokens >= 1 then tokens = tokens - 1 else wait = math.ceil((1 - tokens) / perMs) end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'refilledAtMs', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / perMs))
return wait
`;

/** @throws AxonError rate_limited, with the time after which the tenant may ask again. */
export async function takeFromRate(
  redis: RedisClient,
  tenantId: string,
  rate: RateLimit,
): Promise<void> {
  const key = rateKey(tenantId);
  const reply = await runScript(redis, takeToken, [key], [rate.perMinute, rate.burst]);
  const retryAfterMs = z.int().parse(reply);
  if (retryAfterMs === 0) return;
  throw new AxonError(
    "rate_limited",
    `Too many requests. Ask again in ${Math.ceil(retryAfterMs / 1_000)} s.`,
    { retryAfterMs },
  );
}
