import * as z from "zod";
import { AxonError } from "../../../events/errors.ts";
import type { RedisClient } from "../../../events/redis-client.ts";
import { rateKey } from "../../../events/redis-keys.ts";
import { provider } from "../provider.ts";
import { runScript } from "../redis-script.ts";

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
-- Returns whether a token was taken (1), else (0); the whole tokens that are left; and the ms after which
--   there is one, where none was taken, else until the bucket is full
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local perMs = tonumber(ARGV[1]) / 60000
local burst = tonumber(ARGV[2])
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'refilledAtMs')
local tokens = tonumber(bucket[1]) or burst
local refilledAt = tonumber(bucket[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - refilledAt) * perMs)
local taken = tokens >= 1
if taken then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'refilledAtMs', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / perMs))
if not taken then return { 0, 0, math.ceil((1 - tokens) / perMs) } end
return { 1, math.floor(tokens), math.ceil((burst - tokens) / perMs) }
`;

/** What a tenant may still ask for. */
export interface RateLeft {
  /** Turns at once, after a quiet while. */
  limit: number;
  remaining: number;
  /** Until there are as many as `limit` again, ms. */
  resetMs: number;
}

const replySchema = z.tuple([z.int(), z.int(), z.int()]);

/** @throws AxonError rate_limited, with the time after which the tenant may ask again. */
export async function takeFromRate(
  redis: RedisClient,
  tenantId: string,
  rate: RateLimit,
): Promise<RateLeft> {
  const key = rateKey(tenantId);
  const reply = await runScript(redis, takeToken, [key], [rate.perMinute, rate.burst]);
  const [taken, remaining, waitMs] = replySchema.parse(reply);
  if (taken === 1) return { limit: rate.burst, remaining, resetMs: waitMs };
  const retryAfterMs = waitMs;
  throw new AxonError(
    "rate_limited",
    `Too many requests. Ask again in ${Math.ceil(retryAfterMs / 1_000)} s.`,
    { retryAfterMs },
  );
}
