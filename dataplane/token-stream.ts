import type { Redis } from "ioredis";
import { z } from "zod";
import {
  relayShardOf,
  type ShardMessage,
  type StreamEnd,
  shardChannel,
  streamEndSchema,
  turnKey,
  turnTokensKey,
} from "../events/redis-keys.ts";
import { defineScripts } from "./scripts.ts";

/**
 * The token stream: a turn's answer in Redis, outside of every process. Whoever may write to it is
 * decided inside Redis, by epoch and sequence number (docs/PROTOCOL.md, "Who may write").
 */

/** One token of an answer; `text` is "" where it completes no character. */
export interface StreamToken {
  text: string;
  token: number;
}

/** A turn's stream as a claim finds it. */
interface StreamState {
  epoch: number;
  leaderId: string;
  groupId: string;
  /** Redis time of the first claim, ms. */
  startedAt: number;
  /** Redis time of the first token, ms; 0 before it. */
  firstTokenAt: number;
  /** The tokens so far; the first has sequence number 1. */
  tokens: StreamToken[];
}

export type Claim =
  | { status: "held"; forMs: number }
  | ({ status: "claimed"; cancel: boolean } & StreamState)
  | ({ status: "sealed"; end: StreamEnd } & StreamState);

interface Append {
  turnId: string;
  epoch: number;
  /** Sequence number of the first token. */
  from: number;
  tokens: readonly StreamToken[];
}

export type AppendResult = "ok" | "duplicate" | "gap" | "stale" | "sealed";
type SealResult = "ok" | "sealed" | "gap" | "stale";

export interface TokenStream {
  claim(
    turnId: string,
    claimant: { leaderId: string; groupId: string; tenantId: string; leaseMs: number },
  ): Promise<Claim>;
  /** One round trip for all; the results stand in the order of the batch. */
  appendAll(batch: readonly Append[]): Promise<AppendResult[]>;
  /** Extends leases in one round trip; a lease of 0 ms gives the turns up. */
  renewAll(
    turns: readonly { turnId: string; epoch: number }[],
    leaseMs: number,
  ): Promise<{ status: "ok" | "stale"; cancel: boolean }[]>;
  seal(turnId: string, epoch: number, end: StreamEnd): Promise<SealResult>;
}

const day = 24 * 60 * 60 * 1000;
/** A stream that nobody writes to is kept this long; see docs/PROTOCOL.md. */
const writtenTtlMs = day;
const sealedTtlMs = day / 24;

const entrySchema = z.tuple([z.string(), z.array(z.string())]);
const claimReplySchema = z.union([
  z.tuple([z.literal("held"), z.number()]),
  z.tuple([
    z.enum(["claimed", "sealed"]),
    z.number(),
    z.string(),
    z.string(),
    z.string(),
    z.number(),
    z.number(),
    z.array(entrySchema),
  ]),
]);
const appendReplySchema = z.enum(["ok", "duplicate", "gap", "stale", "sealed"]);
const renewReplySchema = z.tuple([z.enum(["ok", "stale"]), z.string()]);
const sealReplySchema = z.enum(["ok", "sealed", "gap", "stale"]);

export function tokenStream(redis: Redis): TokenStream {
  defineScripts(redis);
  return {
    async claim(turnId, { leaderId, groupId, tenantId, leaseMs }) {
      const keys = [turnKey(turnId), turnTokensKey(turnId)];
      const reply = claimReplySchema.parse(
        await redis.axonClaim(...keys, leaderId, groupId, tenantId, leaseMs, writtenTtlMs),
      );
      if (reply[0] === "held") return { status: "held", forMs: reply[1] };
      const [status, epoch, cancel, holder, group, startedAt, firstTokenAt, entries] = reply;
      const { tokens, end } = readEntries(entries);
      const state = { epoch, leaderId: holder, groupId: group, startedAt, firstTokenAt, tokens };
      if (status === "claimed") return { status, cancel: cancel !== "", ...state };
      if (end === undefined) throw new Error(`Turn ${turnId} is sealed, but its end is missing.`);
      return { status, end, ...state };
    },

    async appendAll(batch) {
      const pipeline = redis.pipeline();
      for (const { turnId, epoch, from, tokens } of batch) {
        const message: ShardMessage = {
          kind: "tokens",
          turnId,
          from,
          texts: tokens.map((token) => token.text),
        };
        pipeline.axonAppend(
          turnKey(turnId),
          turnTokensKey(turnId),
          epoch,
          from,
          shardChannel(relayShardOf(turnId)),
          JSON.stringify(message),
          writtenTtlMs,
          ...tokens.flatMap(({ text, token }) => [text, token]),
        );
      }
      return repliesOf(await pipeline.exec()).map((reply) => appendReplySchema.parse(reply));
    },

    async renewAll(turns, leaseMs) {
      const pipeline = redis.pipeline();
      for (const { turnId, epoch } of turns) pipeline.axonRenew(turnKey(turnId), epoch, leaseMs);
      return repliesOf(await pipeline.exec()).map((reply) => {
        const [status, cancel] = renewReplySchema.parse(reply);
        return { status, cancel: cancel !== "" };
      });
    },

    async seal(turnId, epoch, end) {
      const message: ShardMessage = { kind: "end", turnId, end };
      return sealReplySchema.parse(
        await redis.axonSeal(
          turnKey(turnId),
          turnTokensKey(turnId),
          epoch,
          end.lastSeq,
          JSON.stringify(end),
          shardChannel(relayShardOf(turnId)),
          JSON.stringify(message),
          sealedTtlMs,
        ),
      );
    },
  };
}

/** Stream entries as XRANGE gives them: the tokens in order, and the end where it is among them. */
export function readEntries(entries: readonly (readonly [id: string, fields: string[]])[]): {
  tokens: StreamToken[];
  end: StreamEnd | undefined;
} {
  const tokens: StreamToken[] = [];
  let end: StreamEnd | undefined;
  for (const [, fields] of entries) {
    const [name, value = "", , token = ""] = fields;
    if (name === "end") end = streamEndSchema.parse(JSON.parse(value));
    else tokens.push({ text: value, token: Number(token) });
  }
  return { tokens, end };
}

/** The replies of a pipeline. @throws the first error in it. */
function repliesOf(results: [error: Error | null, result: unknown][] | null): unknown[] {
  return (results ?? []).map(([error, result]) => {
    if (error !== null) throw error;
    return result;
  });
}
