import * as z from "zod";
import type { RedisClient } from "../../../events/redis-client.ts";
import {
  type StreamEnd,
  type TurnMessage,
  turnChannel,
  turnJobKey,
  turnKey,
  turnTokensKey,
} from "../../../events/redis-keys.ts";
import { sealedTtlSeconds } from "../lifetimes.ts";
import { runScript } from "../redis-script.ts";
import type { RequestedTurn } from "../streams.ts";

const sealUnclaimedScript = `
-- Ends the stream of a turn that no leader has claimed, and tells those who watch it.
-- Guarantee: a turn that was ever claimed is left to its leader; after this no claim succeeds, and whoever
-- tries finds the end. The epoch is the time in ms, as that of a claim.
-- KEYS: 1 the turn's hash, 2 the turn's token stream, 3 the turn's job
-- ARGV: 1 tenantId, 2 the end as JSON, 3 the turn's channel, 4 the message for it as JSON, in which the
--   epoch is 0, 5 time to live of the keys from now in ms
-- Returns the epoch, or 0 when a leader has the turn or its stream was sealed before
if redis.call('HEXISTS', KEYS[1], 'epoch') == 1 then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('XADD', KEYS[2], '1-0', 'end', ARGV[2], 'epoch', now)
redis.call('HSET', KEYS[1], 'epoch', now, 'leaderId', 'none', 'groupId', 'none', 'tenantId', ARGV[1],
  'leaseUntilMs', 0, 'lastSeq', 0, 'startedAt', now, 'sealed', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
redis.call('DEL', KEYS[3])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return now
`;

/**
 * Ends a turn's stream as cancelled, before any leader has had the turn. Its watchers are told by the
 * relays, as of any other end.
 * @returns the epoch that the end has; undefined where a leader has the turn, or its stream has ended.
 */
export async function sealUnclaimed(
  redis: RedisClient,
  { turnId, tenantId, requestedAt }: RequestedTurn,
  now: number,
): Promise<number | undefined> {
  const end: StreamEnd = {
    lastSeq: 0,
    epoch: 0,
    finishReason: "cancelled",
    usage: { promptTokens: 0, completionTokens: 0 },
    timings: { queuedMs: Math.max(0, now - requestedAt), firstTokenMs: 0, totalMs: 0 },
  };
  const message: TurnMessage = { kind: "end", turnId, epoch: 0, end };
  const keys = [turnKey(turnId), turnTokensKey(turnId), turnJobKey(turnId)];
  const reply = await runScript(redis, sealUnclaimedScript, keys, [
    ...[tenantId, JSON.stringify(end), turnChannel(turnId), JSON.stringify(message)],
    sealedTtlSeconds * 1_000,
  ]);
  const epoch = z.int().parse(reply);
  return epoch === 0 ? undefined : epoch;
}
