import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Logger } from "@aws-lambda-powertools/logger";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Connections } from "../../dataplane/relay/connections.ts";
import { startRelay } from "../../dataplane/relay.ts";
import { type TokenStream, tokenStream } from "../../dataplane/token-stream.ts";
import type { ServerFrame } from "../../events/frames.ts";
import {
  relayShardOf,
  type ShardMessage,
  shardChannel,
  shardTurnsKey,
  turnTokensKey,
  turnWatchersKey,
} from "../../events/redis-keys.ts";
import { eventually } from "../support/eventually.ts";
import { freshRedis } from "../support/parts.ts";

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

async function relay(connections: Connections, relayId = `relay-${randomUUID()}`) {
  const budget = { take: async () => {} };
  const started = await startRelay(relayId, { redis, connections, budget, logger, now: Date.now });
  relays.push(started);
  return started;
}

async function watch(turnId: string, connectionId: string, after = 0): Promise<void> {
  const shard = relayShardOf(turnId);
  const message: ShardMessage = { kind: "watch", turnId, connectionId, after };
  await redis.hset(turnWatchersKey(turnId), connectionId, after);
  await redis.sadd(shardTurnsKey(shard), turnId);
  await redis.publish(shardChannel(shard), JSON.stringify(message));
}

async function begin(turnId: string): Promise<void> {
  const claimant = { leaderId: "a", groupId: "g", tenantId: "t", leaseMs: 60_000 };
  await stream.claim(turnId, claimant);
}

async function say(turnId: string, from: number, to: number): Promise<void> {
  const tokens = Array.from({ length: to - from + 1 }, (_, i) => ({
    ...{ text: `${from + i} `, token: from + i },
  }));
  expect(await stream.appendAll([{ turnId, epoch: 1, from, tokens }])).toEqual(["ok"]);
}

async function end(turnId: string, lastSeq: number): Promise<void> {
  await stream.seal(turnId, 1, {
    ...{ lastSeq, finishReason: "stop" },
    usage: { promptTokens: 1, completionTokens: lastSeq },
    timings: { queuedMs: 0, firstTokenMs: 0, totalMs: 0 },
  });
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
    await Promise.all(turnIds.map(begin));
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
      await redis.xadd(turnTokensKey(turnId), `${seq}-0`, "text", `${seq} `, "token", seq);
    }
    await redis.hset(`turn:{${turnId}}`, "lastSeq", 3);
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
    await redis.xadd(turnTokensKey(turnId), "2-0", "text", "2 ", "token", 2);
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

  test("a shard has one owner", async () => {
    const recorded = recordingConnections();
    const first = await relay(recorded.connections, "first");
    const second = await relay(recorded.connections, "second");
    expect(first.shards()).toHaveLength(8);
    expect(second.shards()).toHaveLength(0);
    await first.stop();
    await eventually(() => second.shards().length === 8);
  });
});
