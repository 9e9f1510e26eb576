import { createHash, randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { SQSClient } from "@aws-sdk/client-sqs";
import { Redis } from "ioredis";
import { Client } from "pg";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import type { EventLog } from "../../events/event-log.ts";
import { dynamoDbEventLog } from "../../events/event-log-dynamodb.ts";
import { connectionKey, turnSentKey } from "../../events/redis-keys.ts";
import { migrations } from "../../functions/migrations/migrations.ts";
import { startStoreProxy } from "../faults/store-proxy.ts";
import { eventually } from "../support/eventually.ts";
import {
  awsClientConfig,
  freshDatabase,
  freshKeyTable,
  freshQueue,
  freshRedis,
  freshTable,
  parts,
} from "../support/parts.ts";
import { leadTurn } from "./api-stage.ts";
import { bundle } from "./bundle.ts";
import { bundlesFolder, LambdaProcess } from "./lambda-process.ts";
import type { Streamed } from "./lambda-runtime.ts";
import {
  endReport,
  eventTypes,
  guide,
  httpEvent,
  queueEvent,
  reportsEvent,
  socketEvent,
  startedReport,
  tableEvent,
  takeJobs,
} from "./stage.ts";

/** Functions as Lambda runs them: the built bundle in a process, on real stores. */

const names = [
  "chat",
  "completions",
  "connect",
  "history",
  "migrate",
  "ops",
  "project",
  "report",
  "sweep",
] as const;
const secretKey = `key-${randomUUID()}`;

let folder: string;
let env: Record<string, string>;
let log: EventLog;
let redis: Redis;
let sqs: SQSClient;
let queueUrl: string;
/** Ends the connections of a database from the side of the server. */
let admin: Client;
let databaseName: string;

beforeAll(async () => {
  mkdirSync(bundlesFolder, { recursive: true });
  folder = mkdtempSync(join(bundlesFolder, "lambda-"));
  const gateway = createServer((_request, response) => void response.end());
  await new Promise<void>((resolve) => gateway.listen(0, "127.0.0.1", resolve));
  const [redisUrl, databaseUrl, table, keyTable, queue] = await Promise.all([
    freshRedis(),
    freshDatabase(),
    freshTable(),
    freshKeyTable(),
    freshQueue(),
    bundle(names, folder),
  ]);
  const apiKey = { sha256: sha256(secretKey), tenantId: "acme", userId: "user" };
  const { dynamoDbEndpoint, sqsEndpoint } = parts();
  const { port } = gateway.address() as AddressInfo;
  env = {
    REDIS_URL: redisUrl,
    DATABASE_URL: databaseUrl,
    AXON_EVENTS_TABLE: table,
    AXON_DATA_KEYS_TABLE: keyTable,
    AXON_REPORTS_QUEUE_URL: queue.url,
    AXON_CONNECTIONS_ENDPOINT: `http://127.0.0.1:${port}`,
    AXON_MODELS: JSON.stringify([{ ...guide, queueUrl: queue.url }]),
    AXON_API_KEYS: JSON.stringify([apiKey]),
    ...{ AXON_TENANT_IN_FLIGHT: "1000", AXON_DEFAULT_ROOM: "10000" },
    AWS_ENDPOINT_URL_DYNAMODB: dynamoDbEndpoint,
    AWS_ENDPOINT_URL_SQS: sqsEndpoint,
  };
  queueUrl = queue.url;
  sqs = new SQSClient(awsClientConfig("sqs"));
  const dynamoDb = new DynamoDBClient(awsClientConfig("dynamodb"));
  log = dynamoDbEventLog(dynamoDb, table);
  redis = new Redis(redisUrl);
  admin = new Client({ connectionString: parts().databaseUrl });
  await admin.connect();
  databaseName = new URL(databaseUrl).pathname.slice(1);
  const migrate = await start("migrate");
  await migrate.invoke({});
  return async () => {
    rmSync(folder, { recursive: true });
    redis.disconnect();
    sqs.destroy();
    dynamoDb.destroy();
    await admin.end();
    gateway.closeAllConnections();
    gateway.close();
  };
});

const running: LambdaProcess[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((lambda) => lambda.stop()));
});

async function start(
  name: (typeof names)[number],
  more: Record<string, string> = {},
): Promise<LambdaProcess> {
  const lambda = await LambdaProcess.start(join(folder, `${name}.mjs`), { ...env, ...more });
  running.push(lambda);
  return lambda;
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

async function openConnection(): Promise<string> {
  const connectionId = randomUUID();
  await redis.hset(connectionKey(connectionId), { tenantId: "acme", userId: "user" });
  return connectionId;
}

const chatFrame = () => ({ action: "chat", requestId: randomUUID(), prompt: "Hello there." });

/** Connections of the functions to Redis, by their ids there. */
async function redisConnections(): Promise<string[]> {
  const database = new URL(env["REDIS_URL"] ?? "").pathname.slice(1);
  const ownId = String(await redis.client("ID"));
  const lines = String(await redis.client("LIST")).split("\n");
  return lines
    .filter((line) => line.includes(` db=${database} `))
    .map((line) => /^id=(\d+)/.exec(line)?.[1] ?? "")
    .filter((id) => id !== ownId);
}

async function databaseConnections(): Promise<number[]> {
  const { rows } = await admin.query("SELECT pid FROM pg_stat_activity WHERE datname = $1", [
    databaseName,
  ]);
  return (rows as { pid: number }[]).map(({ pid }) => pid);
}

async function commitsOf(turnId: string) {
  return log.read(`turn/${turnId}`);
}

describe("the configuration", () => {
  test("is asked for by each invocation that lacks it, in the log and to the caller", async () => {
    const lambda = await start("report", { REDIS_URL: "nowhere", AXON_MODELS: "[" });
    for (const id of [1, 2]) {
      const problems = /REDIS_URL: .*AXON_MODELS: is not JSON/;
      await expect(lambda.invoke(reportsEvent())).rejects.toThrow(problems);
      await eventually(() => lambda.log.includes(`"invocationId":"invocation-${id}"`));
    }
    expect(lambda.log).toMatch(/"level":"CRITICAL".*REDIS_URL/);
    lambda.set(env);
    expect(await lambda.invoke(reportsEvent())).toEqual({ batchItemFailures: [] });
  });

  test("is not asked for more than the function uses", async () => {
    const { REDIS_URL = "", DATABASE_URL = "" } = env;
    const { AXON_EVENTS_TABLE = "", AXON_DATA_KEYS_TABLE = "" } = env;
    const endpoint = { AWS_ENDPOINT_URL_DYNAMODB: env["AWS_ENDPOINT_URL_DYNAMODB"] ?? "" };
    const lambda = await LambdaProcess.start(join(folder, "project.mjs"), {
      ...{ REDIS_URL, DATABASE_URL, AXON_EVENTS_TABLE, AXON_DATA_KEYS_TABLE, ...endpoint },
    });
    running.push(lambda);
    expect(await lambda.invoke(tableEvent([]))).toEqual({ batchItemFailures: [] });
  });
});

describe("a secret never gets into the log", () => {
  const password = "the-secret-password";

  test("of Redis, which refuses it", async () => {
    const url = new URL(env["REDIS_URL"] ?? "");
    url.username = "nobody";
    url.password = password;
    const lambda = await start("connect", { REDIS_URL: url.href, LOG_LEVEL: "DEBUG" });
    const protocols = `axon.v1, axon.auth.${Buffer.from(secretKey).toString("base64url")}`;
    await lambda.invoke({
      ...socketEvent("connection", ""),
      headers: { "Sec-WebSocket-Protocol": protocols },
    });
    await eventually(() => lambda.log.includes("WRONGPASS"));
    expect(lambda.log).not.toContain(password);
    expect(lambda.log).not.toContain(secretKey);
  });

  test("of PostgreSQL, which is away", async () => {
    const DATABASE_URL = `postgres://axon:${password}@127.0.0.1:9/axon`;
    const lambda = await start("sweep", { DATABASE_URL, LOG_LEVEL: "DEBUG" });
    await expect(lambda.invoke({})).rejects.toThrow();
    await eventually(() => lambda.log.includes("ECONNREFUSED"));
    expect(lambda.log).not.toContain(password);
  });

  test("of the configuration, when it is wrong", async () => {
    const AXON_API_KEYS = JSON.stringify([{ [password]: password, sha256: password }]);
    const lambda = await start("connect", { AXON_API_KEYS, REDIS_URL: password });
    const failure = await lambda.invoke(socketEvent("connection", "")).catch(String);
    await eventually(() => lambda.log.includes("AXON_API_KEYS"));
    expect(`${lambda.log}${failure}`).not.toContain(password);
  });
});

describe("connections", () => {
  test("are made once, and used by every invocation", async () => {
    const lambda = await start("chat");
    const connectionId = await openConnection();
    for (let i = 0; i < 3; i++) {
      await lambda.invoke(socketEvent(connectionId, chatFrame()));
      expect(await redisConnections()).toHaveLength(1);
    }
    const history = await start("history");
    for (let i = 0; i < 3; i++) {
      const headers = { authorization: `Bearer ${secretKey}` };
      const event = httpEvent("/api/conversations", { headers });
      expect(await history.invoke(event)).toMatchObject({ statusCode: 200 });
      expect(await databaseConnections()).toHaveLength(1);
    }
  });

  test("that the servers have ended in its sleep are made anew when it wakes up", async () => {
    const lambda = await start("chat");
    const connectionId = await openConnection();
    await lambda.invoke(socketEvent(connectionId, chatFrame()));
    const sweep = await start("sweep");
    await sweep.invoke({});
    for (const one of [lambda, sweep]) one.freeze();
    for (const id of await redisConnections()) await redis.client("KILL", "ID", Number(id));
    for (const pid of await databaseConnections()) {
      await admin.query("SELECT pg_terminate_backend($1)", [pid]);
    }
    await sleep(300);
    for (const one of [lambda, sweep]) one.thaw();
    const startedAt = performance.now();
    const [, swept] = await Promise.all([
      lambda.invoke(socketEvent(connectionId, chatFrame())),
      sweep.invoke({}),
    ]);
    const tookMs = Math.round(performance.now() - startedAt);
    expect(swept).toMatchObject({ failed: 0 });
    expect(tookMs).toBeLessThan(5_000);
    await eventually(() => lambda.log.split('"handled"').length > 2);
    expect(lambda.log).not.toContain('"code":"unavailable"');
  });

  test("that fall silent in its sleep are given up within seconds", async () => {
    const proxy = await startStoreProxy(parts().redisUrl);
    const url = new URL(env["REDIS_URL"] ?? "");
    url.host = new URL(proxy.url).host;
    const lambda = await start("chat", { REDIS_URL: url.href });
    const connectionId = await openConnection();
    await lambda.invoke(socketEvent(connectionId, chatFrame()));
    lambda.freeze();
    proxy.forget();
    lambda.thaw();
    const startedAt = performance.now();
    await lambda.invoke(socketEvent(connectionId, chatFrame()));
    expect(performance.now() - startedAt).toBeLessThan(8_000);
    await eventually(() => lambda.log.split('"handled"').length > 2);
    expect(lambda.log).not.toContain('"code":"unavailable"');
    proxy.close();
  });
});

// Each of them starts a score of processes.
describe("a function that is killed", { timeout: 120_000 }, () => {
  test("chat, anywhere on its way: the same request once more finishes it", async () => {
    const connectionId = await openConnection();
    for (const afterMs of [2, 10, 18, 26, 34, 45, 60, 80]) {
      const frame = chatFrame();
      const lambda = await start("chat");
      const broken = lambda.invoke(socketEvent(connectionId, frame)).catch(() => undefined);
      await sleep(afterMs);
      await lambda.kill();
      await broken;
      const retry = await start("chat");
      expect(await retry.invoke(socketEvent(connectionId, frame))).toEqual({ statusCode: 200 });
      await eventually(() => retry.log.includes('"handled"'));
      const turnId = /"turnId":"([^"]+)"/.exec(retry.log)?.[1] ?? "";
      expect(eventTypes(await commitsOf(turnId)), `killed after ${afterMs} ms`).toEqual([
        "TurnRequested",
      ]);
      expect(await redis.exists(turnSentKey(turnId))).toBe(1);
      const jobs = await takeJobs(sqs, queueUrl);
      expect(jobs.map((job) => job.turnId)).toContain(turnId);
      await retry.stop();
    }
  });

  test("report, in the middle of a batch: the batch once more writes each event once", async () => {
    const turnIds = await requestTurns(8);
    const event = reportsEvent(
      ...turnIds.flatMap((turnId) => [startedReport(turnId), endReport(turnId, "Hello you.")]),
    );
    for (const afterMs of [40, 60, 80]) {
      const lambda = await start("report");
      const broken = lambda.invoke(event).catch(() => undefined);
      await sleep(afterMs);
      await lambda.kill();
      await broken;
    }
    const retry = await start("report");
    expect(await retry.invoke(event)).toEqual({ batchItemFailures: [] });
    for (const turnId of turnIds) {
      expect(eventTypes(await commitsOf(turnId))).toEqual([
        "TurnRequested",
        "TurnStarted",
        "TurnCompleted",
      ]);
    }
  });

  test("migrate, and two that run at once: each step is applied once", async () => {
    const DATABASE_URL = await freshDatabase();
    for (const afterMs of [10, 20, 30]) {
      const lambda = await start("migrate", { DATABASE_URL });
      const broken = lambda.invoke({}).catch(() => undefined);
      await sleep(afterMs);
      await lambda.kill();
      await broken;
    }
    const both = await Promise.all([
      start("migrate", { DATABASE_URL }),
      start("migrate", { DATABASE_URL }),
    ]);
    const results = await Promise.all(both.map((lambda) => lambda.invoke({})));
    for (const result of results) expect(result).toMatchObject({ schema: migrations.at(-1)?.name });
    const client = new Client({ connectionString: DATABASE_URL });
    await client.connect();
    const { rows } = await client.query("SELECT name FROM migrations ORDER BY name");
    expect(rows).toEqual(migrations.map(({ name }) => ({ name })));
    await client.end();
    expect(await both[0]?.invoke({})).toEqual({ applied: [], schema: migrations.at(-1)?.name });
  });
});

test("ops answers from its bundle: a command, the state, and a refusal", async () => {
  const ops = await start("ops");
  const model = `model-${randomUUID().slice(0, 8)}`;
  const adopt = { command: "adopt", model, revision: "one", groupIds: ["one-0"] };
  expect(await ops.invoke(adopt)).toMatchObject({
    ...{ ok: true, recorded: [{ type: "RevisionAdopted" }] },
    status: { status: "serving", weights: [{ revision: "one", percent: 100 }] },
  });
  const begin = { command: "start", model, revision: "two", rolloutId: "r" };
  expect(await ops.invoke(begin)).toMatchObject({ ok: true, status: { status: "capacity" } });
  expect(await ops.invoke(begin)).toMatchObject({ ok: true, recorded: [] });
  expect(await ops.invoke({ command: "pause", model, rolloutId: "other" })).toMatchObject({
    ...{ ok: false, error: { code: "rollout_not_found", retryable: false } },
  });
});

test("completions streams from its bundle: the head first, then the answer as it is said", async () => {
  const lambda = await start("completions");
  // Among the jobs of turns that other tests have left.
  const prompt = `Hello ${randomUUID()}`;
  const request = {
    ...httpEvent("/v1/chat/completions", { method: "POST" }),
    headers: { authorization: `Bearer ${secretKey}` },
    body: JSON.stringify({ stream: true, messages: [{ role: "user", content: prompt }] }),
  };
  const answer = lambda.invoke(request);
  const job = await eventually(async () =>
    (await takeJobs(sqs, queueUrl)).find(({ messages }) => messages.at(-1)?.content === prompt),
  );
  const leader = await leadTurn(redis, job, "leader");
  await leader.say(1, "One");
  await leader.end(1);
  const { head, chunks } = (await answer) as Streamed;
  expect(head).toMatchObject({
    statusCode: 200,
    headers: { "content-type": "text/event-stream; charset=utf-8", "x-request-id": job.turnId },
  });
  expect(chunks.length).toBeGreaterThan(3);
  expect(chunks.join("")).toContain('"content":"One"');
  expect(chunks.at(-1)).toBe("data: [DONE]\n\n");
  const refused = (await lambda.invoke({ ...request, body: "{}" })) as Streamed;
  expect(refused.head).toMatchObject({ statusCode: 400 });
});

describe("a batch", () => {
  test("of reports: what fails comes again, with what comes after it in its group", async () => {
    const [good = "", bad = ""] = await requestTurns(2);
    const lambda = await start("report");
    const result = await lambda.invoke(
      queueEvent([
        { group: good, body: JSON.stringify(startedReport(good)) },
        { group: bad, body: "{" },
        { group: bad, body: JSON.stringify(startedReport(bad)) },
      ]),
    );
    expect(result).toEqual({
      batchItemFailures: [{ itemIdentifier: "2" }, { itemIdentifier: "3" }],
    });
    expect(eventTypes(await commitsOf(good))).toContain("TurnStarted");
  });

  test("of the table's stream: it is gone on with from the first that fails", async () => {
    const [turnId = ""] = await requestTurns(1);
    const [commit] = await commitsOf(turnId);
    if (commit === undefined) throw new Error("The turn is not in the log.");
    const lambda = await start("project");
    const event = tableEvent([commit, { ...commit, stream: "turn/unreadable" }]);
    const image = event.Records[1]?.dynamodb?.NewImage;
    if (image !== undefined) image["events"] = { S: "{" };
    expect(await lambda.invoke(event)).toEqual({ batchItemFailures: [{ itemIdentifier: "2" }] });
  });
});

/** Asks for turns, each in a conversation of its own. */
async function requestTurns(count: number): Promise<string[]> {
  const lambda = await start("chat");
  const connectionId = await openConnection();
  for (let i = 0; i < count; i++) await lambda.invoke(socketEvent(connectionId, chatFrame()));
  await eventually(() => lambda.log.split('"handled"').length > count);
  return [...new Set([...lambda.log.matchAll(/"turnId":"([^"]+)"/g)].map(([, id]) => id ?? ""))];
}
