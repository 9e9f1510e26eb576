import { z } from "zod";
import { shardOf } from "./event-log.ts";
import { doneFrameSchema } from "./frames.ts";

/**
 * Every Redis key and channel, and what is in it. docs/PROTOCOL.md has the rules by which they
 * change. Keys of one turn share the hash tag `{turnId}`, so a cluster keeps them together and one
 * script can touch them all.
 */

/**
 * Hash, the turn's state for the data plane: `epoch`, `leaderId`, `groupId`, `tenantId`, `lastSeq`;
 * `leaseUntilMs`, `startedAt`, `firstTokenAt` (ms of Redis's clock); `cancel` ("user" | "abandoned");
 * `sealed` ("1" once the end is in the stream).
 */
export const turnKey = (turnId: string): string => `turn:{${turnId}}`;

/**
 * Stream, one entry per token with the id `<seq>-0` and the fields `text` and `token`; after the
 * last token one more entry with the field `end`, a JSON StreamEnd.
 */
export const turnTokensKey = (turnId: string): string => `turn:{${turnId}}:tokens`;

/** Hash, connectionId → last sequence number delivered to it. */
export const turnWatchersKey = (turnId: string): string => `turn:{${turnId}}:watchers`;

/** String, "1": the job was sent. It expires, so that the outbox sends again what was lost. */
export const turnSentKey = (turnId: string): string => `turn:{${turnId}}:sent`;

/** Hash: `tenantId`, `userId`, `connectedAt`. Expires with API Gateway's connection limit. */
export const connectionKey = (connectionId: string): string => `connection:{${connectionId}}`;

/** Set of turnIds that the connection watches. */
export const connectionTurnsKey = (connectionId: string): string =>
  `connection:{${connectionId}}:turns`;

/** String, JSON: the conversation's ended turns as chat messages (a cache of PostgreSQL). */
export const contextKey = (conversationId: string): string => `context:{${conversationId}}`;

/** Hash: a tenant's token bucket, `tokens` and `refilledAtMs`. */
export const rateKey = (tenantId: string): string => `rate:{${tenantId}}`;

/** Turns are spread over this many relay shards. */
export const relayShards = 8;

export const relayShardOf = (turnId: string): number => shardOf(turnId, relayShards);

/** String with a lease: the relayId that owns the shard. */
export const shardLeaseKey = (shard: number): string => `relay:{${shard}}:lease`;

/** Set of turnIds of the shard that someone watches: what a new owner has to take up. */
export const shardTurnsKey = (shard: number): string => `relay:{${shard}}:turns`;

/** Channel on which the owner of the shard hears of new tokens and watchers. */
export const shardChannel = (shard: number): string => `relay:${shard}`;

/** Channel on which leaders hear that a turn is to be cancelled; the message is the turnId. */
export const cancelChannel = "cancel";

/** Hash with a TTL: a living group, `revision`, `leaderId`, `epoch`, `ranks`, `slots`, `running`. */
export const groupKey = (groupId: string): string => `group:{${groupId}}`;

/** How a turn's stream ends: the last frame without the type and the turn's id. */
export const streamEndSchema = doneFrameSchema.omit({ type: true, turnId: true });
export type StreamEnd = z.infer<typeof streamEndSchema>;

/**
 * What is published on a shard's channel. A lost message loses nothing: the tokens stand in the
 * stream, and the next message shows the gap.
 */
export const shardMessageSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("tokens"),
    turnId: z.string(),
    /** Sequence number of the first text. */
    from: z.int().min(1),
    /** One text a token; "" where a token completes no character. */
    texts: z.array(z.string()).min(1),
  }),
  z.strictObject({ kind: z.literal("end"), turnId: z.string(), end: streamEndSchema }),
  z.strictObject({
    kind: z.literal("watch"),
    turnId: z.string(),
    connectionId: z.string(),
    after: z.int().min(0),
  }),
  z.strictObject({ kind: z.literal("gone"), connectionId: z.string() }),
]);
export type ShardMessage = z.infer<typeof shardMessageSchema>;
