import * as z from "zod";
import {
  type StreamEnd,
  streamEndSchema,
  type TurnMessage,
  turnChannel,
  turnJobKey,
  turnKey,
  turnTokensKey,
} from "../../../events/redis-keys.ts";
import type { Deps } from "../deps.ts";
import { sealedTtlSeconds } from "../lifetimes.ts";
import { runScript } from "../redis-script.ts";
import type { RequestedTurn } from "../streams.ts";

/** The end of a turn's stream that no leader will come back to. */

const sealStrandedScript = `
-- Ends the stream of a turn whose leader is gone, and tells those who watch it.
-- Guarantee: a turn whose lease is alive, that was claimed or written to since it was read, or whose
-- stream is sealed, is left alone; after this no claim and no append succeeds. The epoch is higher than
-- any leader's, and no lower than the time in ms.
-- KEYS: 1 the turn's hash, 2 the turn's token stream, 3 the turn's job
-- ARGV: 1 the epoch that was read ("" for none), 2 the sequence number of the last token that was read,
--   3 tenantId, 4 the end as JSON, 5 the turn's channel, 6 the message for it as JSON, 7 time to live of
--   the keys from now in ms
-- Returns the epoch, or 0 when nothing was done
local turn = redis.call('HMGET', KEYS[1], 'epoch', 'lastSeq', 'sealed', 'leaseUntilMs')
if turn[3] or (turn[1] or '') ~= ARGV[1] or (turn[2] or '0') ~= ARGV[2] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(turn[4] or '0') > now then return 0 end

local epoch = math.max(tonumber(turn[1] or '0') + 1, now)
redis.call('XADD', KEYS[2], (ARGV[2] + 1) .. '-0', 'end', ARGV[4], 'epoch', epoch)
redis.call('HSET', KEYS[1], 'epoch', epoch, 'leaderId', 'none', 'groupId', 'none', 'tenantId', ARGV[3],
  'leaseUntilMs', 0, 'lastSeq', ARGV[2], 'sealed', 1)
redis.call('HSETNX', KEYS[1], 'startedAt', now)
redis.call('PEXPIRE', KEYS[1], ARGV[7])
redis.call('PEXPIRE', KEYS[2], ARGV[7])
redis.call('DEL', KEYS[3])
redis.call('PUBLISH', ARGV[5], ARGV[6])
return epoch
`;

const turnHashSchema = z.object({
  epoch: z.string().optional(),
  lastSeq: z.string().default("0"),
  leaderId: z.string().default("none"),
  groupId: z.string().default("none"),
  startedAt: z.coerce.number().optional(),
  firstTokenAt: z.coerce.number().optional(),
  sealed: z.string().optional(),
});

/** How a turn's stream has ended, and who has ended it; `leaderId` is "none" where no leader has. */
export interface SealedStream {
  epoch: number;
  leaderId: string;
  groupId: string;
  startedAt: number;
  text: string;
  end: StreamEnd;
}

/**
 * Seals the stream of a turn that no leader has or will have, after what it holds. One that is sealed
 * already, by a leader whose report was lost, is returned as it is.
 * @param error what its watchers are told, unless it was to be cancelled.
 * @returns undefined where it cannot be done now: a leader has it, or it is being written to.
 */
export async function sealStranded(
  { redis }: Pick<Deps, "redis">,
  { turnId, tenantId, requestedAt, cancelRequested }: RequestedTurn,
  error: NonNullable<StreamEnd["error"]>,
  now: number,
): Promise<SealedStream | undefined> {
  const [key, tokensKey] = [turnKey(turnId), turnTokensKey(turnId)];
  const turn = turnHashSchema.parse(await redis.hgetall(key));
  const entries = (await redis.xrange(tokensKey, "-", "+")).map(([, fields]) => fieldsOf(fields));
  const tokens = entries.filter(({ text }) => text !== undefined);
  const text = tokens.map((token) => token.text).join("");
  const { leaderId, groupId, startedAt = now, firstTokenAt = startedAt } = turn;
  if (turn.sealed !== undefined) {
    const told = entries.at(-1)?.end;
    if (told === undefined) return undefined;
    const end = streamEndSchema.parse(JSON.parse(told));
    return { epoch: Number(turn.epoch), leaderId, groupId, startedAt, text, end };
  }
  const lastSeq = Number(turn.lastSeq);
  if (lastSeq !== tokens.length) return undefined;
  const end: StreamEnd = {
    lastSeq,
    epoch: Number(tokens.at(-1)?.epoch ?? 0),
    finishReason: cancelRequested ? "cancelled" : "failed",
    // How many tokens its prompt had only its leader knew.
    usage: { promptTokens: 0, completionTokens: lastSeq },
    timings: {
      queuedMs: Math.max(0, startedAt - requestedAt),
      firstTokenMs: Math.max(0, firstTokenAt - startedAt),
      totalMs: Math.max(0, now - startedAt),
    },
    ...(!cancelRequested && { error }),
  };
  const message: TurnMessage = { kind: "end", turnId, epoch: end.epoch, end };
  const reply = await runScript(
    redis,
    sealStrandedScript,
    [key, tokensKey, turnJobKey(turnId)],
    [
      ...[turn.epoch ?? "", turn.lastSeq, tenantId, JSON.stringify(end)],
      ...[turnChannel(turnId), JSON.stringify(message), sealedTtlSeconds * 1_000],
    ],
  );
  const epoch = z.int().parse(reply);
  return epoch === 0
    ? undefined
    : { epoch, leaderId: "none", groupId: "none", startedAt, text, end };
}

function fieldsOf(fields: readonly string[]) {
  const known: { text?: string; epoch?: string; end?: string } = {};
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const [name, value = ""] = [fields[i], fields[i + 1]];
    if (name === "text" || name === "epoch" || name === "end") known[name] = value;
  }
  return known;
}
