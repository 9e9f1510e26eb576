import { z } from "zod";
import { type Job, jobSchema } from "../events/jobs.ts";
import { RedisBatch } from "../events/redis-batch.ts";
import type { RedisClient } from "../events/redis-client.ts";
import {
  leasesKey,
  type StreamEnd,
  streamEndSchema,
  type TurnMessage,
  turnChannel,
  turnJobKey,
  turnKey,
  turnReadKey,
  turnTokensKey,
  turnWatchersKey,
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
  /** Of the leader that wrote it. */
  epoch: number;
}

/** Why a turn shall end before its answer does. */
export type CancelReason = "user" | "abandoned";

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
  | ({
      status: "claimed";
      cancel: CancelReason | undefined;
      /** How many claims in a row, this one included, have found the same tokens. */
      barrenClaims: number;
      /** Until when the turn is the caller's, ms of Redis's clock. */
      leaseUntilMs: number;
    } & StreamState)
  | ({ status: "sealed"; end: StreamEnd } & StreamState);

interface Append {
  turnId: string;
  epoch: number;
  /** Sequence number of the first token. */
  from: number;
  tokens: readonly Pick<StreamToken, "text" | "token">[];
}

/** A running turn as its leader knows it. */
export interface TurnRecord {
  job: Job;
  epoch: number;
  leaderId: string;
  groupId: string;
  startedAt: number;
  /** Of the latest claim or renewal that was answered, ms of Redis's clock. */
  leaseUntilMs: number;
  tokens: readonly StreamToken[];
}

/**
 * - `stale`: the turn is not ours any more: another leader has it, or our lease has run out.
 * - `behind`: Redis has lost the claim, or tokens: restore it, and do it again.
 * - `sealed`: the turn has ended.
 */
type Refusal = "stale" | "behind" | "sealed";
export type AppendResult = "ok" | "duplicate" | Refusal;
type SealResult = "ok" | Refusal;

interface Renewal {
  status: "ok" | "stale" | "behind";
  /** Why the turn shall end. */
  cancel: CancelReason | undefined;
  /** Until when the turn is the caller's, ms of Redis's clock; 0 where it is not. */
  leaseUntilMs: number;
}

export interface TokenStream {
  claim(job: Job, claimant: { leaderId: string; groupId: string; leaseMs: number }): Promise<Claim>;
  /** One round trip for all; the results stand in the order of the batch. */
  appendAll(batch: readonly Append[]): Promise<AppendResult[]>;
  /** Writes a running turn anew into a Redis that has lost it, or some of it. */
  restore(turn: TurnRecord, leaseMs: number): Promise<"ok" | "stale" | "sealed">;
  /**
   * Extends leases in one round trip; a lease of 0 ms gives the turns up. A turn that nobody has watched
   * for `abandonMs` is marked for cancelling; 0 never does that.
   */
  renewAll(
    turns: readonly { job: Job; epoch: number }[],
    leaseMs: number,
    abandonMs?: number,
  ): Promise<Renewal[]>;
  seal(job: Job, epoch: number, end: StreamEnd): Promise<SealResult>;
  /** Jobs of turns of a revision whose lease has run out, at most `most`. */
  orphans(revision: string, most: number): Promise<Job[]>;
}

const day = 24 * 60 * 60 * 1000;
/** A stream that nobody writes to is kept this long; see docs/PROTOCOL.md. */
const writtenTtlMs = day;
const sealedTtlMs = day / 24;

const cancelSchema = z
  .enum(["user", "abandoned", ""])
  .transform((reason) => (reason === "" ? undefined : reason));
const entrySchema = z.tuple([z.string(), z.array(z.string())]);
const claimReplySchema = z.union([
  z.tuple([z.literal("held"), z.number()]),
  z.tuple([
    z.enum(["claimed", "sealed"]),
    z.number(),
    cancelSchema,
    z.string(),
    z.string(),
    z.number(),
    z.number(),
    z.number(),
    z.number(),
    z.array(entrySchema),
  ]),
]);
const appendReplySchema = z.enum(["ok", "duplicate", "stale", "behind", "sealed"]);
const restoreReplySchema = z.enum(["ok", "stale", "sealed"]);
const renewReplySchema = z.tuple([z.enum(["ok", "stale", "behind"]), cancelSchema, z.number()]);
const sealReplySchema = z.enum(["ok", "stale", "behind", "sealed"]);

/** Takes turns out of the sorted set of leases. */
const noLease = -1;

export function tokenStream(redis: RedisClient): TokenStream {
  defineScripts(redis);
  return new RedisTokenStream(redis);
}

class RedisTokenStream implements TokenStream {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  async claim(
    job: Job,
    { leaderId, groupId, leaseMs }: { leaderId: string; groupId: string; leaseMs: number },
  ): Promise<Claim> {
    const { turnId, tenantId } = job;
    const keys = [turnKey(turnId), turnTokensKey(turnId), turnJobKey(turnId)];
    const claimant = [leaderId, groupId, tenantId];
    const batch = new RedisBatch(this.#redis);
    // Noted first: a leader that dies between the two leaves a note without a claim, not the reverse. The
    // note of a leader that holds the turn stays as it is.
    noteLeases(batch, [job], leaseMs, "new");
    batch.next().add(turnKey(turnId), (turn) => {
      turn.axonClaim(...keys, ...claimant, leaseMs, writtenTtlMs, JSON.stringify(job));
    });
    const reply = claimReplySchema.parse((await batch.exec())[1]);
    if (reply[0] === "held") return { status: "held", forMs: reply[1] };
    const [status, epoch, cancel, holder, group, startedAt, firstTokenAt, ...rest] = reply;
    const [barrenClaims, leaseUntilMs, entries] = rest;
    const { tokens, end } = readEntries(entries);
    const state = { epoch, leaderId: holder, groupId: group, startedAt, firstTokenAt, tokens };
    if (status === "claimed") {
      await this.#redis.axonNoteLeases(leasesKey(job.revision), leaseMs, "all", turnId);
      return { status, cancel, barrenClaims, leaseUntilMs, ...state };
    }
    if (end === undefined) throw new Error(`Turn ${turnId} is sealed, but its end is missing.`);
    return { status, end, ...state };
  }

  async appendAll(batch: readonly Append[]): Promise<AppendResult[]> {
    const commands = new RedisBatch(this.#redis);
    for (const { turnId, epoch, from, tokens } of batch) {
      const texts = tokens.map((token) => token.text);
      commands.add(turnKey(turnId), (turn) => {
        turn.axonAppend(
          turnKey(turnId),
          turnTokensKey(turnId),
          epoch,
          from,
          turnChannel(turnId),
          messageText({ kind: "tokens", turnId, epoch, from, texts }),
          writtenTtlMs,
          ...tokens.flatMap(({ text, token }) => [text, token]),
        );
      });
    }
    return (await commands.exec()).map((reply) => appendReplySchema.parse(reply));
  }

  async restore(turn: TurnRecord, leaseMs: number): Promise<"ok" | "stale" | "sealed"> {
    const { job, epoch, leaderId, groupId, startedAt, leaseUntilMs, tokens } = turn;
    const { turnId, tenantId } = job;
    const reply = await this.#redis.axonRestore(
      ...[turnKey(turnId), turnTokensKey(turnId), turnJobKey(turnId)],
      ...[epoch, leaderId, groupId, tenantId, startedAt, leaseMs, writtenTtlMs],
      ...[JSON.stringify(job), leaseUntilMs],
      ...tokens.flatMap((token) => [token.text, token.token, token.epoch]),
    );
    return restoreReplySchema.parse(reply);
  }

  async renewAll(
    turns: readonly { job: Job; epoch: number }[],
    leaseMs: number,
    abandonMs = 0,
  ): Promise<Renewal[]> {
    const batch = new RedisBatch(this.#redis);
    for (const { job, epoch } of turns) {
      const { turnId } = job;
      const keys = [turnKey(turnId), turnWatchersKey(turnId), turnReadKey(turnId)];
      batch.add(turnKey(turnId), (turn) => {
        turn.axonRenew(...keys, epoch, leaseMs, abandonMs);
      });
    }
    noteLeases(
      batch,
      turns.map(({ job }) => job),
      leaseMs,
    );
    return (await batch.exec()).slice(0, turns.length).map((reply) => {
      const [status, cancel, leaseUntilMs] = renewReplySchema.parse(reply);
      return { status, cancel, leaseUntilMs };
    });
  }

  async seal(job: Job, epoch: number, end: StreamEnd): Promise<SealResult> {
    const { turnId } = job;
    const reply = await this.#redis.axonSeal(
      ...[turnKey(turnId), turnTokensKey(turnId), turnJobKey(turnId)],
      epoch,
      end.lastSeq,
      JSON.stringify(end),
      turnChannel(turnId),
      messageText({ kind: "end", turnId, epoch, end }),
      sealedTtlMs,
    );
    const result = sealReplySchema.parse(reply);
    // Only a note: where it stays, whoever looks finds that the turn has ended.
    if (result === "ok")
      await this.#redis.axonNoteLeases(leasesKey(job.revision), noLease, "all", turnId);
    return result;
  }

  async orphans(revision: string, most: number): Promise<Job[]> {
    const reply = await this.#redis.axonExpiredLeases(leasesKey(revision), most);
    const turnIds = z.array(z.string()).parse(reply);
    const jobs: Job[] = [];
    for (const turnId of turnIds) {
      const text = await this.#redis.get(turnJobKey(turnId));
      if (text !== null) jobs.push(jobSchema.parse(JSON.parse(text)));
      else await this.#redis.axonNoteLeases(leasesKey(revision), noLease, "all", turnId);
    }
    return jobs;
  }
}

/** Notes the leases of turns, each with those of its revision. */
function noteLeases(
  batch: RedisBatch,
  jobs: readonly Job[],
  leaseMs: number,
  which: "new" | "all" = "all",
): void {
  for (const [revision, ofRevision] of Map.groupBy(jobs, (job) => job.revision)) {
    const turnIds = ofRevision.map((job) => job.turnId);
    const key = leasesKey(revision);
    batch.add(key, (leases) => {
      leases.axonNoteLeases(key, leaseMs, which, ...turnIds);
    });
  }
}

const messageText = (message: TurnMessage): string => JSON.stringify(message);

/** Stream entries as XRANGE gives them: the tokens in order, and the end where it is among them. */
export function readEntries(entries: readonly (readonly [id: string, fields: string[]])[]): {
  tokens: StreamToken[];
  end: StreamEnd | undefined;
  /** The highest among them; 0 without any. */
  epoch: number;
} {
  const tokens: StreamToken[] = [];
  let end: StreamEnd | undefined;
  let highest = 0;
  for (const [, fields] of entries) {
    const isEnd = fields[0] === "end";
    const [, value = "", , token = ""] = fields;
    const epoch = Number(fields[isEnd ? 3 : 5] ?? 0);
    if (epoch > highest) highest = epoch;
    if (isEnd) end = streamEndSchema.parse(JSON.parse(value));
    else tokens.push({ text: value, token: Number(token), epoch });
  }
  return { tokens, end, epoch: highest };
}
