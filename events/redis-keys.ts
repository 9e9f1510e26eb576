import * as z from "zod";
import { shardOf } from "./event-log.ts";
import { doneFrameSchema } from "./frames.ts";

/**
 * Every Redis key and channel, and what is in it. docs/PROTOCOL.md has the rules by which they
 * change. Keys of one turn share the hash tag `{turnId}`, so a cluster keeps them together and one
 * script can touch them all.
 */

/**
 * Hash, the turn's state for the data plane: `epoch`, `leaderId`, `groupId`, `tenantId`, `lastSeq`;
 * `leaseUntilMs`, `startedAt`, `firstTokenAt`, `unwatchedAt` (ms of Redis's clock); `cancel` ("user" |
 * "abandoned"); `sealed` ("1" once the end is in the stream).
 */
export const turnKey = (turnId: string): string => `turn:{${turnId}}`;

/**
 * Stream, one entry per token with the id `<seq>-0` and the fields `text`, `token` and `epoch` (whose
 * leader wrote it); after the last token one more entry with the fields `end`, a JSON StreamEnd, and
 * `epoch`.
 */
export const turnTokensKey = (turnId: string): string => `turn:{${turnId}}:tokens`;

/** String, JSON: the job, as long as the turn runs. Whoever takes the turn over goes on from it. */
export const turnJobKey = (turnId: string): string => `turn:{${turnId}}:job`;

/** Hash, connectionId → what it has got: `watcherValue`. */
export const turnWatchersKey = (turnId: string): string => `turn:{${turnId}}:watchers`;

/**
 * String, "1", for some seconds: somebody reads the turn over HTTP, and counts as a watcher as long as they
 * say so. It expires by itself, for whoever is killed cannot take it back.
 */
export const turnReadKey = (turnId: string): string => `turn:{${turnId}}:read`;

/** How far a connection has got with a turn. */
export interface WatcherProgress {
  /** The last sequence number delivered to it. */
  sent: number;
  /** The epoch of that token; 0 where it is not known. */
  epoch: number;
}

/** A field of the hash of watchers. */
export const watcherValue = ({ sent, epoch }: WatcherProgress): string => `${sent}:${epoch}`;

/** What such a field says. */
export function parseWatcherValue(text: string): WatcherProgress {
  const [sent = 0, epoch = 0] = text.split(":").map(Number);
  return { sent, epoch };
}

/**
 * Sorted set, turnId → end of its lease, in ms of Redis's clock: the turns that leaders of a revision
 * run. It only says where to look; whose a turn is stands in the turn's own hash.
 */
export const leasesKey = (revision: string): string => `leases:{${revision}}`;

/** String: when the job was sent, Unix ms. It expires, so that the outbox sends again what was lost. */
export const turnSentKey = (turnId: string): string => `turn:{${turnId}}:sent`;

/**
 * Hash, only of a turn that is traced: `asked`, `job` and `leader`, each the `traceparent` of a span: of the
 * request, of the job's sending, and of the latest claim. Whoever comes to the turn later goes on from there.
 */
export const turnTraceKey = (turnId: string): string => `turn:{${turnId}}:trace`;

/**
 * Hash: `tenantId`, `userId`, `scopes` (with spaces between them), `connectedAt`; `endsAt` (Unix ms) where its
 * credential ends, `generation` where that is a secret of an API key. Expires with API Gateway's connection
 * limit.
 */
export const connectionKey = (connectionId: string): string => `connection:{${connectionId}}`;

/** Set of turnIds that the connection watches. */
export const connectionTurnsKey = (connectionId: string): string =>
  `connection:{${connectionId}}:turns`;

/** Sorted set, connectionId → when it is over at the latest, Unix ms: what was opened with an API key. */
export const keyConnectionsKey = (keyId: string): string => `key:{${keyId}}:connections`;

/**
 * Hash, generation → Unix ms: when connections end that were opened with that secret of the key, or an older
 * one. Lives as long as a connection may.
 */
export const keyEndsKey = (keyId: string): string => `key:{${keyId}}:ends`;

/** String, JSON: the conversation's ended turns as chat messages (a cache of PostgreSQL). */
export const contextKey = (conversationId: string): string => `context:{${conversationId}}`;

/** Hash: a tenant's token bucket, `tokens` and `refilledAtMs`. */
export const rateKey = (tenantId: string): string => `rate:{${tenantId}}`;

/** Turns are spread over this many relay shards. */
export const relayShards = 8;

/** The relay shard that a turn belongs to, from 0. */
export const relayShardOf = (turnId: string): number => shardOf(turnId, relayShards);

/** String with a lease: the relayId that owns the shard. */
export const shardLeaseKey = (shard: number): string => `relay:{${shard}}:lease`;

/** Set of turnIds of the shard that someone watches: what a new owner has to take up. */
export const shardTurnsKey = (shard: number): string => `relay:{${shard}}:turns`;

/** Channel on which the owner of the shard hears of watchers that come and go. */
export const shardChannel = (shard: number): string => `relay:${shard}`;

/** Channel on which whoever watches the turn hears of its new tokens and of its end. */
export const turnChannel = (turnId: string): string => `turn:{${turnId}}:said`;

/** Sorted set, relayId → when it was last alive, in ms of Redis's clock: the relays there are. */
export const relaysKey = "relays";

/** Set of turnIds that connections of the relay itself watch: what is cleared up after its death. */
export const relayTurnsKey = (relayId: string): string => `relay:{${relayId}}:turns`;

/** Channel on which a relay hears of watchers that are connected to itself. */
export const relayChannel = (relayId: string): string => `relay:${relayId}`;

/** A connection to a relay's own front door carries the relay's id before the dot. */
export const relayConnectionId = (relayId: string, name: string): string => `${relayId}.${name}`;

/** The relay that a connection is connected to; undefined for one of API Gateway. */
export function relayOf(connectionId: string): string | undefined {
  return /^(relay_[0-9A-Z]{16})\.\w+$/.exec(connectionId)?.[1];
}

/**
 * Who serves a connection that watches a turn: the relay that it is connected to, or the owner of the
 * turn's shard. `channel` is where that relay hears of it, `turnsKey` the set that names the turn to it.
 */
export function watchRoute(
  turnId: string,
  connectionId: string,
): { channel: string; turnsKey: string } {
  const relayId = relayOf(connectionId);
  if (relayId !== undefined) {
    return { channel: relayChannel(relayId), turnsKey: relayTurnsKey(relayId) };
  }
  const shard = relayShardOf(turnId);
  return { channel: shardChannel(shard), turnsKey: shardTurnsKey(shard) };
}

/** Channel on which leaders hear that a turn is to be cancelled; the message is the turnId. */
export const cancelChannel = "cancel";

/** Hash with a TTL: a living group, `revision`, `leaderId`, `epoch`, `ranks`, `slots`, `running`. */
export const groupKey = (groupId: string): string => `group:{${groupId}}`;

/** String, JSON: the group's last heartbeat, which stays for a minute after it. */
export const groupBeatKey = (groupId: string): string => `group:{${groupId}}:beat`;

/** What a group's leader says of it, once a second. */
export const groupBeatSchema = z.object({
  /** By the group's clock, Unix ms. */
  at: z.int().min(0),
  revision: z.string(),
  /** When it was started, Unix ms: grows with each start. */
  epoch: z.int().min(1),
  ranks: z.int().min(1),
  /** Turns that it can run, and runs. */
  slots: z.int().min(1),
  running: z.int().min(0),
  /** It takes new turns. */
  isAccepting: z.boolean(),
  /** Share of its room for keys and values that is taken, 0 to 1; left out by an older version. */
  kvUse: z.number().min(0).optional(),
  /** Of all its turns, since the beat before; left out by an older version. */
  tokensPerSecond: z.number().min(0).optional(),
});
export type GroupBeat = z.infer<typeof groupBeatSchema>;

/** String, "1": the group is to take no new turns, also when it is started again. */
export const groupDrainKey = (groupId: string): string => `group:{${groupId}}:drain`;

/**
 * String, JSON `Rotation`, for some minutes: the one group of a revision whose leader is to end its turns and to
 * be started again.
 */
export const rotationKey = (revision: string): string => `rotation:{${revision}}`;

/** The group's leader of this epoch, or of an older one, is meant: one that was started since has been told. */
export const rotationSchema = z.object({ groupId: z.string(), epoch: z.int().min(0) });
export type Rotation = z.infer<typeof rotationSchema>;

/** Sorted set, `observerMember` → when it has last observed something, Unix ms: who hears that the log grows. */
export const observersKey = "observers";

/** Whose connection observes. A connection's id has no spaces. */
export const observerMember = (connectionId: string, tenantId: string): string =>
  `${connectionId} ${tenantId}`;

/** Whose connection a member of the observers is. */
export function parseObserver(member: string): { connectionId: string; tenantId: string } {
  const space = member.indexOf(" ");
  return { connectionId: member.slice(0, space), tenantId: member.slice(space + 1) };
}

/** Channel on which relays hear what observers are to be told: `Notice` of observations.ts. */
export const noticeChannel = "notices";

/** The relay shard whose owner tells a connection of API Gateway what it observes. */
export const observerShardOf = (connectionId: string): number => shardOf(connectionId, relayShards);

/**
 * Hash, kept by the leader of a group that spans nodes: `epoch`, and `state`: "forming" until every
 * follower is there and the engine answers, "ready", and "closed" when the leader has ended its turns.
 */
export const groupLeadKey = (groupId: string): string => `group:{${groupId}}:lead`;

/** Hash, rank → a follower's last beat: "<epoch> <count> alive" or "<epoch> <count> gone <why>". */
export const groupFollowersKey = (groupId: string): string => `group:{${groupId}}:followers`;

/** How a turn's stream ends: the last frame without the type and the turn's id. */
export const streamEndSchema = doneFrameSchema.omit({ type: true, turnId: true });
export type StreamEnd = z.infer<typeof streamEndSchema>;

/**
 * What is published on a turn's channel. A lost message loses nothing: the tokens stand in the stream,
 * and the next message shows the gap.
 */
export const turnMessageSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("tokens"),
    turnId: z.string(),
    epoch: z.int().min(0),
    /** Sequence number of the first text. */
    from: z.int().min(1),
    /** One text a token; "" where a token completes no character. */
    texts: z.array(z.string()).min(1),
  }),
  z.strictObject({
    kind: z.literal("end"),
    turnId: z.string(),
    epoch: z.int().min(0),
    end: streamEndSchema,
  }),
]);
export type TurnMessage = z.infer<typeof turnMessageSchema>;

/** What is published on a `watchRoute`'s channel. */
export const watchMessageSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("watch"),
    turnId: z.string(),
    connectionId: z.string(),
    /** What the connection has of the turn: `WatcherProgress`. */
    sent: z.int().min(0),
    epoch: z.int().min(0),
  }),
  z.strictObject({ kind: z.literal("gone"), connectionId: z.string() }),
]);
export type WatchMessage = z.infer<typeof watchMessageSchema>;

/**
 * Sorted set, groupId → when it was last heard of, in ms of the group's own clock: where to look for the
 * groups of a revision. Whether one lives stands in its own hash, which expires.
 */
export const groupsKey = (revision: string): string => `groups:{${revision}}`;

/**
 * Hash, which revisions of a model new turns get: `weights`, JSON as in events/rollout-events.ts;
 * `version` of the weights, which only grows; `setAt`, ms of Redis's clock. It does not expire; what Redis
 * has lost is restored from the log. Where that has none the model's first revision gets all of them.
 */
export const routeKey = (model: string): string => `route:{${model}}`;

/** String, JSON, for some minutes: no group of the revision takes turns, and how long until one does. */
export const warmingKey = (revision: string): string => `warming:{${revision}}`;

/**
 * Admission: which of a revision's turns are in flight (their job was sent) and which are held back. Only
 * the scripts of functions/lib/admission/admission-scripts.ts read and write these keys, all of them by the one tag.
 *
 * A place is "<tenant> <requestedAt> <turnId>": a tenant's places stand together, in the order of asking.
 */
export const admissionKeys = (revision: string) => ({
  /** Hash, turnId → "<priority> <ms when it was released; 0 while it is held> <place>". */
  turns: `admission:{${revision}}:turns`,
  /** Sorted set of places, all with score 0. */
  inFlight: `admission:{${revision}}:in-flight`,
  /** Sorted sets of places, all with score 0. */
  heldInteractive: `admission:{${revision}}:held-interactive`,
  heldBatch: `admission:{${revision}}:held-batch`,
  /** Sorted set, turnId → ms of Redis's clock until which the entry stays, unless it is confirmed. */
  expiry: `admission:{${revision}}:expiry`,
  /** Hash, "<priority> <tenant>" → the tenant's credit in the round robin. */
  credits: `admission:{${revision}}:credits`,
  /** Hash: `turnMs`, the mean time in flight; `sinceBatch`, releases that went past a batch turn. */
  pace: `admission:{${revision}}:pace`,
});
