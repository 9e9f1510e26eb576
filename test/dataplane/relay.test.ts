import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Logger } from "@aws-lambda-powertools/logger";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Connections } from "../../dataplane/relay/connections.ts";
import { Feed } from "../../dataplane/relay/feed.ts";
import { startRelay } from "../../dataplane/relay/start-relay.ts";
import { watchRecord } from "../../dataplane/relay/watch-record.ts";
import { type TokenStream, tokenStream } from "../../dataplane/token-stream.ts";
import type { ServerFrame } from "../../events/frames.ts";
import {
  relayShardOf,
  shardTurnsKey,
  turnKey,
  turnTokensKey,
  turnWatchersKey,
  watcherValue,
} from "../../events/redis-keys.ts";
import { watchTurn } from "../../functions/lib/turns/watchers.ts";
import { eventually } from "../support/eventually.ts";
import { freshRedis } from "../support/parts.ts";
import { endAt, jobOf } from "./token-stream.contract.ts";

/** A relay on a real Redis; what it would send to browsers is recorded. */

const logger = new Logger({ serviceName: "test", logLevel: "SILENT" });
let redis: Redis;
let stream: TokenStream;
let relays: { stop: () => Promise<void> }[];

beforeEach(async () => {
  redis = new Redis(await freshRedis());
  stream = tokenStream(redis);
  relays = [];
});
afterEach(async () => {
  for (const relay of relays) await relay.stop();
  redis.disconnect();
});

type Answer = "sent" | "gone" | Error;

/** Connections that remember their frames; `answer` decides what becomes of a call. */
function recordingConnections(
  answer: (connectionId: string, call: number) => Answer | Promise<Answer> = () => "sent",
) {
  const frames = new Map<string, ServerFrame[]>();
  const inFlight = new Map<string, number>();
  let calls = 0;
  let mostInFlight = 0;
  const connections: Connections = {
    async post(connectionId, frame) {
      const now = (inFlight.get(connectionId) ?? 0) + 1;
      inFlight.set(connectionId, now);
      mostInFlight = Math.max(mostInFlight, now);
      const result = await answer(connectionId, calls++);
      inFlight.set(connectionId, now - 1);
      if (result instanceof Error) throw result;
      if (result === "sent") frames.set(connectionId, [...(frames.get(connectionId) ?? []), frame]);
      return result;
    },
  };
  return {
    connections,
    of: (id: string) => frames.get(id) ?? [],
    mostInFlight: () => mostInFlight,
  };
}

async function relay(
  connections: Connections,
  relayId = `relay-${randomUUID()}`,
  now: () => number = Date.now,
) {
  const started = await startRelay(relayId, { redis, connections, logger, now });
  relays.push(started);
  return started;
}

const watch = (turnId: string, connectionId: string, sent = 0, epoch = 0) =>
  watchTurn(redis, turnId, connectionId, { sent, epoch });

/** Claims a turn. @returns the epoch. */
async function begin(turnId: string, leaderId = "a", leaseMs = 60_000): Promise<number> {
  const job = jobOf(turnId, "r");
  const claim = await stream.claim(job, { leaderId, groupId: "g", leaseMs });
  if (claim.status !== "claimed") throw new Error(`The turn is ${claim.status}.`);
  epochs.set(turnId, claim.epoch);
  return claim.epoch;
}

/** Of each turn, that of its latest claim. */
const epochs = new Map<string, number>();
const epochOf = (turnId: string): number => epochs.get(turnId) ?? 0;

async function say(turnId: string, from: number, to: number, by = ""): Promise<void> {
  const tokens = Array.from({ length: to - from + 1 }, (_, i) => ({
    ...{ text: `${by}${from + i} `, token: from + i },
  }));
  const epoch = epochOf(turnId);
  expect(await stream.appendAll([{ turnId, epoch, from, tokens }])).toEqual(["ok"]);
}

async function end(turnId: string, lastSeq: number): Promise<void> {
  const epoch = epochOf(turnId);
  const end = endAt(lastSeq, epoch);
  expect(await stream.seal(jobOf(turnId, "r"), epoch, end)).toBe("ok");
}

const counting = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => `${from + i} `).join("");

/** The text of a turn's frames, having checked that they follow each other without gap or repeat. */
function textOf(frames: ServerFrame[], turnId: string, after = 0): string {
  let seq = after;
  let text = "";
  for (const frame of frames) {
    if (frame.type !== "tokens" || frame.turnId !== turnId) continue;
    expect(frame.from).toBe(seq + 1);
    seq = frame.to;
    text += frame.text;
  }
  return text;
}

/** Cuts a stream back: its entries are written anew, for an id never comes twice. */
async function cutStream(turnId: string, lastSeq: number): Promise<void> {
  const key = turnTokensKey(turnId);
  const kept = await redis.xrange(key, "-", `${lastSeq}-0`);
  await redis.del(key);
  for (const [id, fields] of kept) await redis.xadd(key, id, ...fields);
}

const said = (from: number, to: number, by: string) =>
  Array.from({ length: to - from + 1 }, (_, i) => `${by}${from + i} `).join("");

/** The text that is left when frames are applied as they come. */
function readAsClient(frames: ServerFrame[], turnId: string): string {
  const pieces: { to: number; text: string }[] = [];
  for (const frame of frames) {
    if (frame.type === "rewind") while ((pieces.at(-1)?.to ?? 0) > frame.to) pieces.pop();
    if (frame.type !== "tokens" || frame.turnId !== turnId) continue;
    // A piece cannot be cut between its tokens; a client would ask for what it has lost of it.
    expect(frame.from).toBe((pieces.at(-1)?.to ?? 0) + 1);
    pieces.push(frame);
  }
  return pieces.map(({ text }) => text).join("");
}

const isDone = (frames: ServerFrame[], turnId: string) =>
  frames.some((frame) => frame.type === "done" && frame.turnId === turnId);

describe("a watcher", () => {
  test("gets the tokens in order, then the end", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    await watch(turnId, "c1");
    await begin(turnId);
    for (let seq = 1; seq <= 30; seq += 3) await say(turnId, seq, seq + 2);
    await end(turnId, 30);
    await eventually(() => isDone(recorded.of("c1"), turnId));
    expect(textOf(recorded.of("c1"), turnId)).toBe(counting(1, 30));
    expect(recorded.of("c1").at(-1)).toMatchObject({ type: "done", lastSeq: 30 });
  });

  test("that comes late gets what it has missed, from where it says", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    await begin(turnId);
    await say(turnId, 1, 1_300);
    await watch(turnId, "c1", 100);
    await say(turnId, 1_301, 1_302);
    await end(turnId, 1_302);
    await eventually(() => isDone(recorded.of("c1"), turnId));
    expect(textOf(recorded.of("c1"), turnId, 100)).toBe(counting(101, 1_302));
  });

  test("that is one of several gets its own copy", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    await begin(turnId);
    await Promise.all([watch(turnId, "c1"), watch(turnId, "c2")]);
    await say(turnId, 1, 5);
    await end(turnId, 5);
    for (const id of ["c1", "c2"]) {
      await eventually(() => isDone(recorded.of(id), turnId));
      expect(textOf(recorded.of(id), turnId)).toBe(counting(1, 5));
    }
  });

  test("of many turns gets all of them, with one call in flight", async () => {
    const recorded = recordingConnections(() => sleep(2, "sent" as const));
    await relay(recorded.connections);
    const turnIds = Array.from({ length: 10 }, () => randomUUID());
    await Promise.all(turnIds.map((turnId) => watch(turnId, "c1")));
    await Promise.all(turnIds.map((turnId) => begin(turnId)));
    for (let seq = 1; seq <= 20; seq++) {
      await Promise.all(turnIds.map((turnId) => say(turnId, seq, seq)));
    }
    await Promise.all(turnIds.map((turnId) => end(turnId, 20)));
    for (const turnId of turnIds) {
      await eventually(() => isDone(recorded.of("c1"), turnId));
      expect(textOf(recorded.of("c1"), turnId)).toBe(counting(1, 20));
    }
    expect(recorded.mostInFlight()).toBe(1);
  });

  test("that has got everything leaves nothing behind", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    await watch(turnId, "c1");
    await begin(turnId);
    await say(turnId, 1, 1);
    await end(turnId, 1);
    await eventually(async () => (await redis.exists(turnWatchersKey(turnId))) === 0);
    await eventually(
      async () => (await redis.sismember(shardTurnsKey(relayShardOf(turnId)), turnId)) === 0,
    );
  });
});

describe("a connection", () => {
  test("that is slow gets fewer, larger frames, and holds up nobody", async () => {
    const slow = Promise.withResolvers<Answer>();
    const recorded = recordingConnections((id) => (id === "slow" ? slow.promise : "sent"));
    await relay(recorded.connections);
    const turnId = randomUUID();
    await begin(turnId);
    await Promise.all([watch(turnId, "slow"), watch(turnId, "fast")]);
    for (let seq = 1; seq <= 400; seq++) await say(turnId, seq, seq);
    await end(turnId, 400);
    await eventually(() => isDone(recorded.of("fast"), turnId));
    expect(recorded.of("slow")).toEqual([]);
    slow.resolve("sent");
    await eventually(() => isDone(recorded.of("slow"), turnId));
    expect(textOf(recorded.of("slow"), turnId)).toBe(counting(1, 400));
    expect(recorded.of("slow").length).toBeLessThan(5);
  });

  test("that is gone is forgotten", async () => {
    const recorded = recordingConnections(() => "gone");
    await relay(recorded.connections);
    const turnId = randomUUID();
    await begin(turnId);
    await watch(turnId, "c1");
    await say(turnId, 1, 1);
    await eventually(async () => (await redis.exists(turnWatchersKey(turnId))) === 0);
    expect(await redis.sismember(shardTurnsKey(relayShardOf(turnId)), turnId)).toBe(0);
  });

  test("that is throttled or broken for a while gets the same frames in the end", async () => {
    const throttled = Object.assign(new Error("slow down"), { name: "TooManyRequestsException" });
    const broken = Object.assign(new Error("reset"), { code: "ECONNRESET" });
    const unwell = Object.assign(new Error("503"), { $metadata: { httpStatusCode: 503 } });
    const recorded = recordingConnections((_, call) => [throttled, broken, unwell][call] ?? "sent");
    await relay(recorded.connections);
    const turnId = randomUUID();
    await begin(turnId);
    await watch(turnId, "c1");
    await say(turnId, 1, 3);
    await end(turnId, 3);
    await eventually(() => isDone(recorded.of("c1"), turnId));
    expect(textOf(recorded.of("c1"), turnId)).toBe(counting(1, 3));
  });
});

describe("when something is lost", () => {
  test("more than a connection had read, and the turn has ended since: it is cut back", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    const before = (await begin(turnId)) - 1_000;
    await say(turnId, 1, 3);
    await end(turnId, 3);
    await watch(turnId, "c1", 9, before);
    await eventually(() => isDone(recorded.of("c1"), turnId));
    expect(recorded.of("c1")[0]).toEqual({ type: "rewind", turnId, to: 0 });
  });

  test("a connection, progress that is noted late brings it not back", async () => {
    const turnId = randomUUID();
    const record = watchRecord(redis);
    const feed = new Feed(turnId, Promise.resolve(), 0);
    const progress = { sent: 2, epoch: 1, checkedEpoch: 0, missing: 0 };
    const flags = { catchingUp: false, servedAt: 0, endSent: false, unsaved: true };
    await record.save([{ feed, connectionId: "c1", ...progress, ...flags }]);
    expect(await redis.exists(turnWatchersKey(turnId))).toBe(0);
    await watch(turnId, "c1");
    await record.save([{ feed, connectionId: "c1", ...progress, ...flags }]);
    expect(await redis.hget(turnWatchersKey(turnId), "c1")).toBe("2:1");
  });

  test("a notification, the gap is read from the stream", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    await begin(turnId);
    await watch(turnId, "c1");
    await say(turnId, 1, 1);
    await eventually(() => recorded.of("c1").length > 0);
    // Written past the script: nobody is told.
    for (const seq of [2, 3]) {
      const token = ["text", `${seq} `, "token", seq, "epoch", epochOf(turnId)];
      await redis.xadd(turnTokensKey(turnId), `${seq}-0`, ...token);
    }
    await redis.hset(turnKey(turnId), "lastSeq", 3);
    await say(turnId, 4, 4);
    await eventually(() => textOf(recorded.of("c1"), turnId) === counting(1, 4));
  });

  test("the last notification, the silence is noticed", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    await begin(turnId);
    await watch(turnId, "c1");
    await say(turnId, 1, 1);
    await eventually(() => recorded.of("c1").length > 0);
    const token = ["text", "2 ", "token", 2, "epoch", epochOf(turnId)];
    await redis.xadd(turnTokensKey(turnId), "2-0", ...token);
    await eventually(() => textOf(recorded.of("c1"), turnId) === counting(1, 2));
  });

  test("the relay, the next one goes on", async () => {
    const recorded = recordingConnections();
    const first = await relay(recorded.connections, "first");
    const turnId = randomUUID();
    await begin(turnId);
    await watch(turnId, "c1");
    await say(turnId, 1, 10);
    await eventually(() => textOf(recorded.of("c1"), turnId) === counting(1, 10));
    await first.stop();
    await say(turnId, 11, 20);
    await relay(recorded.connections, "second");
    await say(turnId, 21, 30);
    await end(turnId, 30);
    await eventually(() => isDone(recorded.of("c1"), turnId));
    expect(textOf(recorded.of("c1"), turnId)).toBe(counting(1, 30));
  });

  test("nobody: relays share the shards, and each has one owner", async () => {
    const recorded = recordingConnections();
    const first = await relay(recorded.connections, "first");
    expect(first.shards()).toHaveLength(8);
    const second = await relay(recorded.connections, "second");
    await eventually(() => first.shards().length === 4 && second.shards().length === 4);
    expect(new Set([...first.shards(), ...second.shards()]).size).toBe(8);
    await first.stop();
    await eventually(() => second.shards().length === 8);
  });

  test("the last tokens, with their leader: the next one's stand in their place", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    const before = await begin(turnId, "a");
    await watch(turnId, "c1");
    await say(turnId, 1, 6);
    await eventually(() => textOf(recorded.of("c1"), turnId) === counting(1, 6));
    await say(turnId, 7, 10);
    await eventually(() => textOf(recorded.of("c1"), turnId) === counting(1, 10));
    // A failover after which the last four are not there.
    await redis.hset(turnKey(turnId), "lastSeq", 6, "leaseUntilMs", 0);
    await cutStream(turnId, 6);
    expect(await begin(turnId, "b")).toBeGreaterThan(before);
    await say(turnId, 7, 12, "b");
    await end(turnId, 12);
    await eventually(() => isDone(recorded.of("c1"), turnId));
    const frames = recorded.of("c1");
    expect(frames).toContainEqual({ type: "rewind", turnId, to: 6 });
    expect(readAsClient(frames, turnId)).toBe(counting(1, 6) + said(7, 12, "b"));
  });

  test("all of a stream that its leader still has: it is restored, and goes on", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    const epoch = await begin(turnId);
    await watch(turnId, "c1");
    await say(turnId, 1, 5);
    await eventually(() => textOf(recorded.of("c1"), turnId) === counting(1, 5));
    await redis.del(turnTokensKey(turnId), turnKey(turnId));
    const tokens = [1, 2, 3, 4, 5].map((seq) => ({ text: `${seq} `, token: seq, epoch }));
    const runner = { leaderId: "a", groupId: "g", startedAt: 1, leaseUntilMs: Date.now() + 60_000 };
    const record = { job: jobOf(turnId, "r"), epoch, ...runner };
    expect(await stream.restore({ ...record, tokens }, 60_000)).toBe("ok");
    await say(turnId, 6, 9);
    await end(turnId, 9);
    await eventually(() => isDone(recorded.of("c1"), turnId));
    expect(textOf(recorded.of("c1"), turnId)).toBe(counting(1, 9));
  });

  test("Redis's data, a relay notes anew who watches", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    await begin(turnId);
    await watch(turnId, "c1");
    await say(turnId, 1, 2);
    await eventually(() => textOf(recorded.of("c1"), turnId) === counting(1, 2));
    await redis.flushdb();
    await redis.call("CLIENT", "KILL", "TYPE", "pubsub");
    const has = () => redis.hget(turnWatchersKey(turnId), "c1");
    const value = watcherValue({ sent: 2, epoch: epochOf(turnId) });
    await eventually(async () => (await has()) === value);
  });

  test("an announcement, who is noted to watch is found when the relay can hear again", async () => {
    const recorded = recordingConnections();
    await relay(recorded.connections);
    const turnId = randomUUID();
    await begin(turnId);
    await say(turnId, 1, 3);
    // As `watchTurn` notes it, but for the message, which nobody has heard.
    await redis.hset(turnWatchersKey(turnId), "c1", watcherValue({ sent: 1, epoch: 0 }));
    await redis.sadd(shardTurnsKey(relayShardOf(turnId)), turnId);
    await redis.call("CLIENT", "KILL", "TYPE", "pubsub");
    await eventually(() => textOf(recorded.of("c1"), turnId, 1) === counting(2, 3));
  });

  test("a turn's stream for ever, who does not ask about it is forgotten, and may ask again", async () => {
    let skewMs = 0;
    const recorded = recordingConnections();
    await relay(recorded.connections, undefined, () => Date.now() + skewMs);
    const turnId = randomUUID();
    await watch(turnId, "c1");
    await watch(turnId, "c2");
    const watchers = () => redis.hkeys(turnWatchersKey(turnId));
    skewMs = 80_000;
    await watch(turnId, "c2");
    await sleep(1_500);
    expect(await watchers()).toEqual(["c1", "c2"]);
    skewMs = 130_000;
    await eventually(async () => (await watchers()).join() === "c2");
    expect(await redis.smembers(shardTurnsKey(relayShardOf(turnId)))).toContain(turnId);
    skewMs = 210_000;
    await eventually(async () => (await watchers()).length === 0);
    await eventually(async () => {
      const turns = await redis.smembers(shardTurnsKey(relayShardOf(turnId)));
      return !turns.includes(turnId);
    });
    await watch(turnId, "c1");
    await begin(turnId);
    await say(turnId, 1, 2);
    await eventually(() => textOf(recorded.of("c1"), turnId) === counting(1, 2));
  });

  test("sight of a watcher that only the record knows, its turn is still found by the next relay", async () => {
    const recorded = recordingConnections((id) => (id === "closed" ? "gone" : "sent"));
    const first = await relay(recorded.connections, "first");
    const turnId = randomUUID();
    await begin(turnId);
    await watch(turnId, "c1");
    await say(turnId, 1, 2);
    await redis.hset(turnWatchersKey(turnId), "closed", watcherValue({ sent: 0, epoch: 0 }));
    await end(turnId, 2);
    await eventually(() => isDone(recorded.of("c1"), turnId));
    await first.stop();
    await relay(recorded.connections, "second");
    await eventually(async () => (await redis.exists(turnWatchersKey(turnId))) === 0);
  });
});
