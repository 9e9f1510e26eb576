import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { SQSClient } from "@aws-sdk/client-sqs";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { announceGroup } from "../dataplane/group.ts";
import { SqsJobQueue } from "../dataplane/job-queue.ts";
import { Leader } from "../dataplane/leader.ts";
import { startRelay } from "../dataplane/relay/start-relay.ts";
import { tokenStream } from "../dataplane/token-stream.ts";
import { TokenWriter } from "../dataplane/token-writer.ts";
import type { ServerFrame } from "../events/frames.ts";
import { processId } from "../events/ids.ts";
import { RedisBatch } from "../events/redis-batch.ts";
import { type RedisClient, redisClient, redisSubscriber } from "../events/redis-client.ts";
import { cancelChannel, connectionKey } from "../events/redis-keys.ts";
import { cancel } from "../functions/cancel.ts";
import { chat } from "../functions/chat.ts";
import { disconnect } from "../functions/disconnect.ts";
import { isOutage } from "../functions/lib/failures.ts";
import { lazyRedis } from "../functions/lib/redis.ts";
import { streamOnRedis } from "./dataplane/redis-stream.ts";
import { tokenStreamContract } from "./dataplane/token-stream.contract.ts";
import { admissionScriptsContract } from "./functions/admission-scripts.contract.ts";
import { context, guide, logger, type Stage, socketEvent, startStage } from "./functions/stage.ts";
import { announced } from "./support/announced.ts";
import { eventually } from "./support/eventually.ts";
import { awsClientConfig, freshQueue } from "./support/parts.ts";
import { type RedisCluster, startRedisCluster } from "./support/redis-cluster.ts";
import { syntheticEngine, syntheticText, wordsTokenizer } from "./support/synthetic-engine.ts";

/** Redis as ElastiCache has it: a cluster, once as it is, and once encrypted and with a password. */

const password = "a!&#$^<>-b";

describe("a Redis Cluster", () => {
  let cluster: RedisCluster;
  let redis: RedisClient;
  let listener: Redis;
  beforeAll(async () => {
    cluster = await startRedisCluster();
    redis = redisClient(cluster.url, { maxRetriesPerRequest: null });
    listener = redisSubscriber(redis);
  });
  afterAll(async () => {
    redis.disconnect();
    listener.disconnect();
    await cluster.stop();
  });

  describe("holds token streams", () => {
    tokenStreamContract(() => streamOnRedis(redis, listener));
  });
  describe("decides on admission", () => {
    admissionScriptsContract(() => redisClient(cluster.url, { maxRetriesPerRequest: null }));
  });

  test("takes commands about any keys together, and answers in their order", async () => {
    const keys = Array.from({ length: 50 }, (_, i) => `key:{${i}}:${randomUUID()}`);
    const batch = new RedisBatch(redis);
    for (const [i, key] of keys.entries()) batch.add(key, (one) => one.set(key, i).incr(key));
    const counts = new RedisBatch(redis);
    for (const key of keys) counts.add(key, (one) => one.get(key));
    expect(await batch.exec()).toEqual(keys.flatMap((_, i) => ["OK", i + 1]));
    expect(await counts.exec()).toEqual(keys.map((_, i) => String(i + 1)));
    expect(await new RedisBatch(redis).exec()).toEqual([]);
  });

  test("says what is wrong with one command among others", async () => {
    const [one, other] = [`{a}${randomUUID()}`, `{b}${randomUUID()}`];
    const batch = new RedisBatch(redis)
      .add(one, (first) => first.set(one, "text"))
      .add(other, (second) => second.set(other, "text").incr(other))
      .next()
      .add(one, (third) => third.del(one));
    await expect(batch.exec()).rejects.toThrow("not an integer");
    expect(await redis.get(one)).toBe("text");
  });

  answersTurns(() => cluster);

  test("of which a server is away for a while keeps nobody waiting, and serves again after it", async () => {
    const impatient = lazyRedis(cluster.url, logger);
    const keys = Array.from({ length: 30 }, () => `{${randomUUID()}}`);
    const setAll = () => Promise.allSettled(keys.map((key) => impatient.set(key, "1")));
    const succeeded = (results: PromiseSettledResult<unknown>[]) =>
      results.filter(({ status }) => status === "fulfilled").length;
    expect(succeeded(await setAll())).toBe(keys.length);
    const restarting = cluster.restartOne(4_000);
    await sleep(200);
    const startedAt = performance.now();
    const results = await setAll();
    expect(performance.now() - startedAt).toBeLessThan(6_000);
    expect(succeeded(results)).toBeGreaterThan(0);
    for (const result of results) {
      if (result.status === "rejected") expect(isOutage(result.reason), result.reason).toBe(true);
    }
    await restarting;
    await eventually(async () => succeeded(await setAll()) === keys.length);
    impatient.disconnect();
  });
});

test("a Redis Cluster that is away is an outage, until it is there", async () => {
  const cluster = await startRedisCluster();
  const url = new URL(cluster.url);
  await cluster.stop();
  const impatient = lazyRedis(url.href, logger);
  const startedAt = performance.now();
  for (const attempt of [
    () => impatient.get("key"),
    () => new RedisBatch(impatient).add("key", (one) => one.get("key")).exec(),
    () => impatient.get("key"),
  ]) {
    expect(isOutage(await attempt().catch((error: unknown) => error))).toBe(true);
  }
  expect(performance.now() - startedAt).toBeLessThan(8_000);
  impatient.disconnect();
});

describe("a Redis Cluster with TLS and a password", () => {
  let cluster: RedisCluster;
  const known = getCACertificates("default");
  beforeAll(async () => {
    cluster = await startRedisCluster(password);
    setDefaultCACertificates([...known, cluster.certificate]);
  });
  afterAll(async () => {
    setDefaultCACertificates(known);
    await cluster.stop();
  });

  answersTurns(() => cluster);

  test("is not trusted when nobody vouches for its certificate", async () => {
    setDefaultCACertificates(known);
    const redis = lazyRedis(cluster.url, logger);
    const failure = await redis.get("key").catch((error: unknown) => error);
    expect(isOutage(failure), String(failure)).toBe(true);
    redis.disconnect();
    setDefaultCACertificates([...known, cluster.certificate]);
  });
});

/** One turn from the page's request to its last token, and one that is cancelled. */
function answersTurns(clusterOf: () => RedisCluster): void {
  let stage: Stage;
  let redis: RedisClient;
  const stopping: (() => Promise<unknown>)[] = [];
  const frames: ServerFrame[] = [];

  beforeAll(async () => {
    const { url } = clusterOf();
    stage = await startStage({ redisUrl: url });
    redis = redisClient(url, { maxRetriesPerRequest: null });
    const relay = await startRelay(processId("relay"), {
      ...{ redis, logger, now: Date.now },
      connections: {
        post: (_, frame) => {
          frames.push(frame);
          return "sent";
        },
      },
    });
    stopping.push(() => relay.stop(), await startLeader(redis, stage));
  });
  afterAll(async () => {
    for (const stop of stopping) await stop();
    redis.disconnect();
    await stage.close();
  });

  const framesOf = (turnId: string) =>
    frames.filter((frame) => "turnId" in frame && frame.turnId === turnId);
  const textOf = (turnId: string) =>
    framesOf(turnId).reduce(
      (text, frame) => text + (frame.type === "tokens" ? frame.text : ""),
      "",
    );
  const ended = (turnId: string) =>
    eventually(() => framesOf(turnId).find((frame) => frame.type === "done"));

  async function ask(maxTokens: number) {
    const connectionId = await stage.open("acme");
    const frame = {
      action: "chat",
      requestId: randomUUID(),
      prompt: "Count.",
      sampling: { maxTokens },
    };
    await chat(stage.deps)(socketEvent(connectionId, frame), context);
    const accepted = stage.framesTo(connectionId)[0];
    if (accepted?.type !== "accepted") throw new Error(JSON.stringify(accepted));
    return { connectionId, turnId: accepted.turnId };
  }

  test("carries a turn from its request to its last token", async () => {
    const { connectionId, turnId } = await ask(20);
    await ended(turnId);
    expect(textOf(turnId)).toBe(syntheticText(20));
    await disconnect(stage.deps)(socketEvent(connectionId, ""), context);
    expect(await redis.exists(connectionKey(connectionId))).toBe(0);
  });

  test("carries the wish to cancel", async () => {
    const { connectionId, turnId } = await ask(64);
    await eventually(() => framesOf(turnId).some((frame) => frame.type === "tokens"));
    await cancel(stage.deps)(socketEvent(connectionId, { action: "cancel", turnId }), context);
    expect(await ended(turnId)).toMatchObject({ finishReason: "cancelled" });
  });
}

/** @returns how to stop it. */
async function startLeader(redis: RedisClient, stage: Stage): Promise<() => Promise<void>> {
  const sqs = new SQSClient(awsClientConfig("sqs"));
  const reports = await freshQueue({ fifo: true });
  const stream = tokenStream(redis);
  const revision = guide.revision;
  const queueUrl = stage.deps.models.withRevision(revision)?.queueUrl ?? "";
  const urls = {
    jobsQueueUrl: queueUrl,
    deadLetterQueueUrl: queueUrl,
    reportsQueueUrl: reports.url,
  };
  const leader = new Leader({
    engine: syntheticEngine({ tokens: 1_000, msPerToken: 5 }),
    ...{ tokenizer: wordsTokenizer, stream, leaderId: "leader-1", groupId: "group-1", logger },
    ...{ revision, abandonMs: 0, now: Date.now, queue: new SqsJobQueue(sqs, urls, () => {}) },
    writer: new TokenWriter(stream, { now: Date.now, onError: () => {} }),
  });
  const subscriber = redisSubscriber(redis);
  subscriber.on("message", (_, turnId) => leader.cancel(turnId));
  await subscriber.subscribe(cancelChannel);
  const withdraw = announceGroup(redis, "group-1", announced(revision, 8));
  void leader.run();
  return async () => {
    await leader.drain(0);
    await withdraw();
    subscriber.disconnect();
    sqs.destroy();
  };
}
