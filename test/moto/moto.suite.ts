import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import {
  DeleteMessageCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import type { SQSEvent } from "aws-lambda";
import { Redis } from "ioredis";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SqsJobQueue } from "../../dataplane/job-queue.ts";
import { dynamoDbEventLog } from "../../events/event-log-dynamodb.ts";
import { jobSchema, messageBody } from "../../events/jobs.ts";
import { connectionKey } from "../../events/redis-keys.ts";
import {
  createEventTable,
  createKeyTable,
  createQueue,
  type QueuePair,
} from "../../local/provision.ts";
import { jobOf } from "../dataplane/token-stream.contract.ts";
import { eventLogContract } from "../events/event-log.contract.ts";
import { bundle } from "../functions/bundle.ts";
import { bundlesFolder, LambdaProcess } from "../functions/lambda-process.ts";
import {
  endReport,
  eventTypes,
  guide,
  socketEvent,
  startedReport,
  tableEvent,
} from "../functions/stage.ts";
import { freshDatabase, freshRedis } from "../support/parts.ts";
import { startMoto } from "./moto-server.ts";

/** What the project calls AWS for, against an implementation of AWS that knows nothing of the project. */

let moto: Awaited<ReturnType<typeof startMoto>>;
let dynamoDb: DynamoDBClient;
let sqs: SQSClient;
let jobs: QueuePair;
let reports: QueuePair;

const table = "events";
const keyTable = "data-keys";
const signal = new AbortController().signal;

beforeAll(async () => {
  moto = await startMoto();
  const config = {
    endpoint: moto.url,
    region: "us-east-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  };
  dynamoDb = new DynamoDBClient(config);
  sqs = new SQSClient(config);
  await createEventTable(dynamoDb, table);
  await createKeyTable(dynamoDb, keyTable);
  jobs = await createQueue(sqs, "jobs");
  reports = await createQueue(sqs, "reports", { fifo: true });
});
afterAll(async () => {
  dynamoDb.destroy();
  sqs.destroy();
  await moto.stop();
});

describe("the event log", () => {
  eventLogContract(() => dynamoDbEventLog(dynamoDb, table));
});

/** Takes up to ten messages; they stay hidden for a minute. */
async function receive(QueueUrl: string) {
  const { Messages = [] } = await sqs.send(
    new ReceiveMessageCommand({
      ...{ QueueUrl, MaxNumberOfMessages: 10, VisibilityTimeout: 60 },
      ...{ MessageAttributeNames: ["All"], MessageSystemAttributeNames: ["All"] },
    }),
  );
  return Messages;
}

describe("the queues", () => {
  const malformed: string[] = [];
  const queue = () =>
    new SqsJobQueue(
      sqs,
      {
        jobsQueueUrl: jobs.url,
        deadLetterQueueUrl: jobs.deadLetterUrl,
        reportsQueueUrl: reports.url,
      },
      (_, reason) => malformed.push(reason),
    );
  const send = (MessageBody: string) =>
    sqs.send(new SendMessageCommand({ QueueUrl: jobs.url, MessageBody, MessageGroupId: "acme" }));

  test("give jobs out, again after they were given back, and no more once deleted", async () => {
    const turnIds = Array.from({ length: 12 }, () => randomUUID());
    for (const turnId of turnIds) await send(messageBody(jobOf(turnId, "r")));
    const taken = [await queue().receive(10, signal), await queue().receive(10, signal)].flat();
    expect(taken.map(({ job }) => job.turnId).sort()).toEqual([...turnIds].sort());
    const receipts = taken.map(({ receipt }) => receipt);
    await queue().hide(receipts, 60);
    await queue().hide(receipts.slice(0, 11), 0);
    const again = [await queue().receive(10, signal), await queue().receive(10, signal)].flat();
    expect(again).toHaveLength(11);
    expect(again.map(({ receiveCount }) => receiveCount)).toEqual(again.map(() => 2));
    await queue().delete([...again.map(({ receipt }) => receipt), receipts[11] ?? ""]);
    expect(await receive(jobs.url)).toEqual([]);
  });

  test("move what is no job to the dead letters, with the reason", async () => {
    await send("no job");
    expect(await queue().receive(10, signal)).toEqual([]);
    expect(malformed).toEqual(["The body is not JSON."]);
    const [letter] = await receive(jobs.deadLetterUrl);
    expect(letter?.Body).toBe("no job");
    expect(letter?.MessageAttributes?.["reason"]?.StringValue).toBe("The body is not JSON.");
  });

  test("take each report once, and keep a turn's in order", async () => {
    const turnId = randomUUID();
    const [started, ended] = [startedReport(turnId), endReport(turnId, "Hello you.")];
    for (const report of [started, ended, started, ended]) await queue().report(report);
    const bodies: unknown[] = [];
    for (let message = await receive(reports.url); message.length > 0; ) {
      for (const { Body = "", ReceiptHandle } of message) {
        bodies.push(JSON.parse(Body));
        await sqs.send(new DeleteMessageCommand({ QueueUrl: reports.url, ReceiptHandle }));
      }
      message = await receive(reports.url);
    }
    expect(bodies).toEqual([started, ended]);
  });
});

describe("the functions, as bundles in processes", () => {
  const names = ["chat", "report", "migrate", "project", "sweep"] as const;
  const running: LambdaProcess[] = [];
  const undo: (() => void)[] = [];
  let start: (name: (typeof names)[number]) => Promise<LambdaProcess>;
  let redis: Redis;

  beforeAll(async () => {
    mkdirSync(bundlesFolder, { recursive: true });
    const folder = mkdtempSync(join(bundlesFolder, "moto-"));
    const gateway = createServer((_request, response) => void response.end());
    await new Promise<void>((resolve) => gateway.listen(0, "127.0.0.1", resolve));
    const [redisUrl, databaseUrl] = await Promise.all([freshRedis(), freshDatabase()]);
    await bundle(names, folder);
    redis = new Redis(redisUrl);
    const env = {
      ...{ REDIS_URL: redisUrl, DATABASE_URL: databaseUrl, AXON_EVENTS_TABLE: table },
      AXON_DATA_KEYS_TABLE: keyTable,
      AXON_CONNECTIONS_ENDPOINT: `http://127.0.0.1:${(gateway.address() as AddressInfo).port}`,
      AXON_MODELS: JSON.stringify([{ ...guide, queueUrl: jobs.url }]),
      AWS_ENDPOINT_URL: moto.url,
    };
    start = async (name) => {
      const lambda = await LambdaProcess.start(join(folder, `${name}.mjs`), env);
      running.push(lambda);
      return lambda;
    };
    undo.push(
      () => rmSync(folder, { recursive: true }),
      () => redis.disconnect(),
      () => void gateway.close(),
    );
  });
  afterAll(async () => {
    for (const lambda of running) await lambda.stop();
    for (const step of undo) step();
  });

  test("carry a turn from the request to the history", async () => {
    const log = dynamoDbEventLog(dynamoDb, table);
    await (await start("migrate")).invoke({});
    await redis.hset(connectionKey("here"), { tenantId: "acme", userId: "user" });
    const frame = { action: "chat", requestId: randomUUID(), prompt: "Hello there." };
    expect(await (await start("chat")).invoke(socketEvent("here", frame))).toEqual({
      statusCode: 200,
    });
    const [message] = await receive(jobs.url);
    const { turnId, conversationId } = jobSchema.parse(JSON.parse(message?.Body ?? ""));
    expect(message?.Attributes?.["MessageGroupId"] ?? "acme").toBe("acme");

    const Records = [startedReport(turnId), endReport(turnId, "Hello you.")].map((report, i) => ({
      ...{ messageId: String(i), receiptHandle: "", body: JSON.stringify(report) },
      attributes: { MessageGroupId: turnId },
    }));
    const event = { Records } as unknown as SQSEvent;
    expect(await (await start("report")).invoke(event)).toEqual({ batchItemFailures: [] });
    const commits = [
      ...(await log.read(`conversation/${conversationId}`)),
      ...(await log.read(`turn/${turnId}`)),
    ];
    expect(eventTypes(commits).at(-1)).toBe("TurnCompleted");
    expect(await (await start("project")).invoke(tableEvent(commits))).toEqual({
      batchItemFailures: [],
    });
    expect(await (await start("sweep")).invoke({})).toMatchObject({ open: 0, failed: 0 });
  });
});
