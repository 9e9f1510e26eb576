import { type KnownApiKey, latestGeneration } from "../../../events/api-key.ts";
import { RedisBatch } from "../../../events/redis-batch.ts";
import type { RedisClient } from "../../../events/redis-client.ts";
import { connectionKey, keyConnectionsKey, keyEndsKey } from "../../../events/redis-keys.ts";
import { connectionTtlSeconds } from "../lifetimes.ts";
import type { Identity } from "./authenticate.ts";

/**
 * Connections end with the API key that has opened them. When each ends stands in its binding, which every
 * frame reads anyway. `connect` notes the binding, then itself among the key's connections, and only then
 * reads what has ended; whoever ends a key notes that first, and then looks for connections. So one of the
 * two finds the other, also where `connect` has taken the key for good because it had read it before.
 */

const atOnce = 1_000;

/**
 * Notes that a connection was opened with a secret of a key.
 * @param now Unix ms.
 * @returns when that secret ends, as far as Redis has been told, Unix ms; Infinity where it has not.
 */
export async function joinKey(
  redis: RedisClient,
  { keyId, generation }: NonNullable<Identity["key"]>,
  connectionId: string,
  now: number,
): Promise<number> {
  const connections = keyConnectionsKey(keyId);
  const overAt = now + connectionTtlSeconds * 1_000;
  const replies = await redis
    .multi()
    .zadd(connections, overAt, connectionId)
    .zremrangebyscore(connections, "-inf", now)
    .expire(connections, connectionTtlSeconds)
    .hgetall(keyEndsKey(keyId))
    .exec();
  const [error, ends] = replies?.at(-1) ?? [new Error("Redis has not answered to EXEC.")];
  if (error !== null) throw error;
  const concerned = Object.entries(ends as Record<string, string>)
    .filter(([upTo]) => generation <= Number(upTo))
    .map(([, endsAt]) => Number(endsAt));
  return Math.min(Number.POSITIVE_INFINITY, ...concerned);
}

/**
 * Guarantee: a connection that was opened with a secret of the generation or an older one ends at the moment
 * named, or before. One that is not known any more stays so. Doing it again changes nothing.
 * KEYS: 1 connection:{C}
 * ARGV: 1 the generation, 2 the moment (Unix ms)
 */
const endConnection = `
local generation = redis.call('HGET', KEYS[1], 'generation')
if not generation or tonumber(generation) > tonumber(ARGV[1]) then return 0 end
local known = redis.call('HGET', KEYS[1], 'endsAt')
if known and tonumber(known) <= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'endsAt', ARGV[2])
return 1
`;

/**
 * Ends the connections whose secret has ended or will end. Safe to repeat.
 * @param now Unix ms.
 */
export async function endConnections(
  redis: RedisClient,
  key: KnownApiKey,
  now: number,
): Promise<void> {
  const ends = endsOf(key, now);
  if (ends.length === 0) return;
  const endsKey = keyEndsKey(key.keyId);
  const fields = Object.fromEntries(ends.map(({ generation, endsAt }) => [generation, endsAt]));
  await redis.multi().hset(endsKey, fields).expire(endsKey, connectionTtlSeconds).exec();
  const connections = keyConnectionsKey(key.keyId);
  const ids = await redis.zrangebyscore(connections, now, "+inf");
  for (let i = 0; i < ids.length; i += atOnce) {
    const batch = new RedisBatch(redis);
    for (const name of ids.slice(i, i + atOnce).map(connectionKey)) {
      batch.add(name, (pipeline) => {
        for (const { generation, endsAt } of ends) {
          pipeline.eval(endConnection, 1, name, generation, endsAt);
        }
      });
    }
    await batch.exec();
  }
}

/** What no connection can have been opened with any more is left out. */
function endsOf(key: KnownApiKey, now: number): { generation: number; endsAt: number }[] {
  if (key.revokedAt !== undefined) {
    return [{ generation: latestGeneration(key), endsAt: key.revokedAt }];
  }
  const oldest = now - connectionTtlSeconds * 1_000;
  return key.secrets.flatMap(({ generation, goodUntil }) =>
    goodUntil !== undefined && goodUntil > oldest ? [{ generation, endsAt: goodUntil }] : [],
  );
}
