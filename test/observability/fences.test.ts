import { randomUUID } from "node:crypto";
import { Logger } from "@aws-lambda-powertools/logger";
import { Redis } from "ioredis";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { JobQueue } from "../../dataplane/job-queue.ts";
import { Leader } from "../../dataplane/leader.ts";
import { leaderMeter } from "../../dataplane/metrics/leader-meter.ts";
import { meteredConnections, relayMeter } from "../../dataplane/metrics/relay-meter.ts";
import { startRelay } from "../../dataplane/relay/start-relay.ts";
import { type TokenStream, tokenStream } from "../../dataplane/token-stream.ts";
import { TokenWriter } from "../../dataplane/token-writer.ts";
import { turnKey, turnTokensKey } from "../../events/redis-keys.ts";
import { watchTurn } from "../../functions/lib/turns/watchers.ts";
import { jobOf } from "../dataplane/token-stream.contract.ts";
import { eventually } from "../support/eventually.ts";
import { freshRedis } from "../support/parts.ts";
import { syntheticEngine, wordsTokenizer } from "../support/synthetic-engine.ts";
import { parseExposition, sampleValue } from "./exposition.ts";

/** What is counted where something has gone wrong, on a real Redis. */

const logger = new Logger({ serviceName: "test", logLevel: "SILENT" });
let redis: Redis;
let stream: TokenStream;
/** What has to end before Redis may. */
const stops: (() => Promise<void>)[] = [];
beforeEach(async () => {
  redis = new Redis(await freshRedis());
  stream = tokenStream(redis);
});
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
  redis.disconnect();
});

const meterOf = () => leaderMeter({ model: "m", revision: "r", group: "g" });
const claim = async (turnId: string, leaderId: string, leaseMs: number) => {
  const claimed = await stream.claim(jobOf(turnId, "r"), { leaderId, groupId: "g", leaseMs });
  if (claimed.status !== "claimed") throw new Error(`The turn is ${claimed.status}.`);
  return claimed;
};

/** A queue that nobody writes to. */
const silentQueue: JobQueue = {
  receive: (_most, signal) =>
    new Promise((resolve) => signal.addEventListener("abort", () => resolve([]))),
  hide: async () => {},
  delete: async () => {},
  report: async () => {},
};

test("a turn whose leader has died counts as taken over by the next", async () => {
  const turnId = randomUUID();
  await claim(turnId, "dead", 1);
  const meter = meterOf();
  const leader = new Leader({
    ...{ stream, logger, meter, leaderId: "next", groupId: "g", revision: "r", abandonMs: 0 },
    ...{ engine: syntheticEngine({ tokens: 4 }), tokenizer: wordsTokenizer, now: Date.now },
    queue: silentQueue,
    writer: new TokenWriter(stream, { now: Date.now, onError: () => {}, meter }),
  });
  const running = leader.run();
  stops.push(async () => {
    await leader.drain(0);
    await running;
  });
  const counted = await eventually(() => {
    const families = parseExposition(meter.registry.exposition());
    const isLeft = sampleValue(families, "axon_turns_left_total", { outcome: "finished" }) === 1;
    return isLeft && families;
  });
  expect(sampleValue(counted, "axon_takeovers_total")).toBe(1);
  expect(sampleValue(counted, "axon_claims_total", { result: "claimed" })).toBe(1);
  expect(sampleValue(counted, "axon_generation_tokens_total")).toBe(4);
  expect(sampleValue(counted, "axon_append_duration_seconds_count")).toBeGreaterThan(0);
  expect(sampleValue(counted, "axon_jobs_received_total")).toBe(0);
});

test("an append of a leader that has lost its turn counts as stale, and its tokens do not count", async () => {
  const turnId = randomUUID();
  const first = await claim(turnId, "paused", 1);
  await eventually(async () => (await claim(turnId, "next", 60_000)).epoch > first.epoch);
  const meter = meterOf();
  const lost = Promise.withResolvers<void>();
  const writer = new TokenWriter(stream, { now: Date.now, onError: () => {}, meter });
  const job = jobOf(turnId, "r");
  writer
    .open({ ...first, job, leaderId: "paused", groupId: "g" }, lost.resolve)
    .write({ text: "late", token: 1 });
  await lost.promise;
  const counted = parseExposition(meter.registry.exposition());
  expect(sampleValue(counted, "axon_appends_total", { result: "stale" })).toBe(1);
  expect(sampleValue(counted, "axon_appends_total", { result: "ok" })).toBe(0);
  expect(sampleValue(counted, "axon_generation_tokens_total")).toBe(0);
});

test("a notification that was lost counts as a gap, and a call by what became of it", async () => {
  const turnId = randomUUID();
  const meter = relayMeter();
  let calls = 0;
  const connections = meteredConnections(meter, "own", {
    post: () => {
      const throttled = Object.assign(new Error("429"), { $metadata: { httpStatusCode: 429 } });
      return calls++ === 0 ? Promise.reject(throttled) : "sent";
    },
  });
  const relay = await startRelay("relay-of-test", {
    ...{ redis, logger, connections, meter, now: Date.now },
  });
  stops.push(() => relay.stop());
  const { epoch } = await claim(turnId, "leader", 60_000);
  await watchTurn(redis, turnId, "c1", { sent: 0, epoch: 0 });
  const counted = (sample: string, labels = {}) =>
    sampleValue(parseExposition(meter.registry.exposition()), sample, labels);
  const say = async (from: number) => {
    const tokens = [{ text: "a ", token: 1 }];
    expect(await stream.appendAll([{ turnId, epoch, from, tokens }])).toEqual(["ok"]);
  };
  await say(1);
  await eventually(() => counted("axon_relay_tokens_total") === 1);
  // Written past the script: nobody is told.
  await redis.xadd(turnTokensKey(turnId), "2-0", "text", "b ", "token", 2, "epoch", epoch);
  await redis.hset(turnKey(turnId), "lastSeq", 2);
  await say(3);
  await eventually(() => counted("axon_relay_tokens_total") === 3);
  expect(counted("axon_relay_stream_reads_total", { reason: "gap" })).toBe(1);
  const posts = (result: string) => counted("axon_relay_posts_total", { door: "own", result });
  expect([posts("throttled"), posts("sent"), posts("gone")]).toEqual([1, 2, 0]);
  expect(counted("axon_relay_post_duration_seconds_count", { door: "own" })).toBe(3);
  expect(relay.watched()).toEqual({ turns: 1, watchers: 1 });
});
