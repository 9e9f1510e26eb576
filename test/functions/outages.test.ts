import { randomUUID } from "node:crypto";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { turnStream } from "../../events/event-log.ts";
import { dynamoDbEventLog } from "../../events/event-log-dynamodb.ts";
import type { ServerFrame } from "../../events/frames.ts";
import { turnIdFor } from "../../events/ids.ts";
import { contextKey } from "../../events/redis-keys.ts";
import { chat } from "../../functions/chat.ts";
import { dispatch } from "../../functions/dispatch.ts";
import { lazyDatabase } from "../../functions/lib/database.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { lazyRedis } from "../../functions/lib/redis.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import { awsClientConfig } from "../support/parts.ts";
import {
  context,
  endReport,
  eventTypes,
  logger,
  reportsEvent,
  type Stage,
  socketEvent,
  startStage,
  tableEvent,
} from "./stage.ts";

/** `chat` while one store cannot be reached: its clients as they are, at a port where nobody listens. */

const nowhere = "127.0.0.1:9";
let stage: Stage;
const opened: { end(): unknown }[] = [];
beforeAll(async () => {
  stage = await startStage();
});
afterAll(async () => {
  await Promise.all(opened.map((client) => client.end()));
  await stage.close();
});

function withoutRedis(): Deps {
  const redis = lazyRedis(`redis://${nowhere}`, logger);
  opened.push({ end: () => redis.disconnect() });
  return { ...stage.deps, redis };
}

function withoutDatabase(): Deps {
  const database = lazyDatabase(`postgres://nobody@${nowhere}/none`, logger);
  opened.push(database);
  return { ...stage.deps, database };
}

const awayConfig = (service: "sqs" | "dynamodb") => ({
  ...awsClientConfig(service),
  ...{ endpoint: `http://${nowhere}`, maxAttempts: 3 },
});

function withoutLog(): Deps {
  const client = new DynamoDBClient(awayConfig("dynamodb"));
  opened.push({ end: () => client.destroy() });
  return { ...stage.deps, log: dynamoDbEventLog(client, "none") };
}

function withoutQueue(): Deps {
  // The emulator's queue addresses are absolute, and the SDK would call them as they are.
  const sqs = new SQSClient({ ...awayConfig("sqs"), useQueueUrlAsEndpoint: false });
  opened.push({ end: () => sqs.destroy() });
  return { ...stage.deps, sqs };
}

async function say(deps: Deps, more: Record<string, unknown> = {}) {
  const frame = { action: "chat", requestId: randomUUID(), prompt: "Hello?", ...more };
  const connectionId = await stage.open("acme");
  const startedAt = performance.now();
  await chat(deps)(socketEvent(connectionId, frame), context);
  const [reply] = stage.framesTo(connectionId) as [ServerFrame];
  const tookMs = performance.now() - startedAt;
  return { frame, turnId: turnIdFor("acme", frame.requestId), reply, tookMs };
}

/** API Gateway waits for so long. */
const patienceMs = 29_000;

describe.each([
  ["Redis", withoutRedis],
  ["DynamoDB", withoutLog],
])("without %s", (_, away) => {
  test("chat says in time that it may be tried again, and records nothing", async () => {
    const commits = (await stage.commits()).length;
    const { frame, reply, tookMs } = await say(away());
    expect(reply).toMatchObject({ type: "error", code: "unavailable", retryable: true });
    expect(tookMs).toBeLessThan(patienceMs / 3);
    expect((await stage.commits()).length).toBe(commits);
    expect((await say(stage.deps, frame)).reply).toMatchObject({ type: "accepted" });
  });
});

describe("without PostgreSQL", () => {
  /** A conversation of two turns that is projected and in the cache. */
  async function conversation(): Promise<string> {
    let conversationId: string | undefined;
    for (let i = 0; i < 2; i++) {
      const { reply, turnId } = await say(stage.deps, { conversationId });
      if (reply.type !== "accepted") throw new Error("not accepted");
      ({ conversationId } = reply);
      await report(stage.deps)(reportsEvent(endReport(turnId, "Yes.")), context);
    }
    await project(stage.deps)(tableEvent(await stage.commits()), context);
    await stage.takeJobs();
    return conversationId ?? "";
  }

  test("a new conversation begins, and one whose context is in Redis goes on, at once", async () => {
    const conversationId = await conversation();
    const deps = withoutDatabase();
    for (const more of [{}, { conversationId }]) {
      const { reply, tookMs } = await say(deps, more);
      expect(reply).toMatchObject({ type: "accepted" });
      expect(tookMs).toBeLessThan(1_000);
    }
    const jobs = await stage.takeJobs();
    expect(jobs.map(({ messages }) => messages.length)).toEqual([2, 6]);
  });

  test("one whose context is not there is read from the log", async () => {
    const conversationId = await conversation();
    await stage.deps.redis.del(contextKey(conversationId));
    const { reply } = await say(withoutDatabase(), { conversationId });
    expect(reply).toMatchObject({ type: "accepted" });
    expect((await stage.takeJobs())[0]?.messages).toHaveLength(6);
  });
});

describe("without SQS", () => {
  test("the turn is accepted, and the outbox sends its job when the queue is back", async () => {
    const { reply, turnId, tookMs } = await say(withoutQueue());
    expect(reply).toMatchObject({ type: "accepted", turnId });
    expect(tookMs).toBeLessThan(patienceMs / 3);
    expect(eventTypes(await stage.deps.log.read(turnStream(turnId)))).toEqual(["TurnRequested"]);
    expect(await stage.takeJobs()).toEqual([]);
    const requested = (await stage.commits()).filter(({ stream }) => stream === turnStream(turnId));
    const result = await dispatch(stage.deps)(tableEvent(requested), context);
    expect(result).toEqual({ batchItemFailures: [] });
    expect(await stage.takeJobs()).toMatchObject([{ turnId }]);
  });
});
