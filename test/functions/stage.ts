import { createHash, randomUUID } from "node:crypto";
import { Logger } from "@aws-lambda-powertools/logger";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import {
  DeleteMessageCommand,
  PurgeQueueCommand,
  ReceiveMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import type {
  APIGatewayProxyEventV2,
  APIGatewayProxyWebsocketEventV2,
  AttributeValue,
  Context,
  DynamoDBStreamEvent,
  SQSEvent,
} from "aws-lambda";
import { ClusterError } from "../../events/cluster-port.ts";
import { dynamoDbKeyRegister } from "../../events/data-key-register.ts";
import { cachedDataKeys } from "../../events/data-keys.ts";
import { dynamoDbDataKeys } from "../../events/data-keys-dynamodb.ts";
import type { DomainEvent } from "../../events/event-catalog.ts";
import { type Commit, type EventLog, logShards } from "../../events/event-log.ts";
import { dynamoDbEventLog, itemFromCommit } from "../../events/event-log-dynamodb.ts";
import { sealedEventLog } from "../../events/event-log-sealed.ts";
import type { ServerFrame } from "../../events/frames.ts";
import { type Job, jobSchema, type Report } from "../../events/jobs.ts";
import { dynamoDbLogEraser } from "../../events/log-eraser.ts";
import { connectionKey, type StreamEnd, turnKey, turnTokensKey } from "../../events/redis-keys.ts";
import { defaultScopes, type Scope } from "../../events/scopes.ts";
import { apiKeyCheck } from "../../functions/lib/credentials/api-key-check.ts";
import { authenticator, type TokenIssuer } from "../../functions/lib/credentials/authenticate.ts";
import { lazyDatabase } from "../../functions/lib/database.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { migrate } from "../../functions/lib/migrate.ts";
import { type Model, modelCatalog } from "../../functions/lib/models.ts";
import { lazyRedis } from "../../functions/lib/redis.ts";
import {
  awsClientConfig,
  freshDatabase,
  freshKeyTable,
  freshQueue,
  freshRedis,
  freshTable,
} from "../support/parts.ts";

/** The functions' dependencies on real stores, with a gateway that only notes what it was given. */
export interface Stage {
  /** Who needs a cluster brings one. */
  deps: Deps;
  /** What each connection was sent, oldest first. */
  frames: { connectionId: string; frame: ServerFrame }[];
  framesTo(connectionId: string): ServerFrame[];
  /** Connections that a handler has closed. */
  closed: string[];
  /** A connection that is open for a tenant; its id. */
  open(tenantId: string, scopes?: readonly Scope[]): Promise<string>;
  /** Takes the jobs off the queue that are there by now. */
  takeJobs(): Promise<Job[]>;
  /** Every commit of the log, in the order of writing. */
  commits(): Promise<Commit[]>;
  dynamoDb: DynamoDBClient;
  tableName: string;
  keyTableName: string;
  close(): Promise<void>;
}

export const logger = new Logger({ serviceName: "test", logLevel: "SILENT" });

export const guide: Omit<Model, "queueUrl"> = {
  model: "guide",
  revision: "guide-1",
  default: true,
  contextTokens: 1_024,
  systemPrompt: "You are a guide.",
  sampling: {
    ...{ maxTokens: 64, temperature: 0.5, topK: 10, topP: 0.9 },
    ...{ minP: 0.05, repetitionPenalty: 1.1, stop: ["\nUser:"] },
  },
};

/** API keys are named after the tenant that they belong to. */
const tenants = ["acme", "rival"];
const apiKeys = tenants.map((tenantId) => ({
  sha256: createHash("sha256").update(`key-of-${tenantId}`).digest("hex"),
  tenantId,
  userId: `user-of-${tenantId}`,
  scopes: [...defaultScopes],
}));

export async function startStage({
  issuer,
  redisUrl,
}: {
  issuer?: TokenIssuer;
  /** Redis has few logical databases: who starts a stage for each test gives them all the same. */
  redisUrl?: string;
} = {}): Promise<Stage> {
  const [ownRedisUrl, databaseUrl, tableName, keyTableName, queue, reports] = await Promise.all([
    redisUrl ?? freshRedis(),
    freshDatabase(),
    freshTable(),
    freshKeyTable(),
    freshQueue(),
    freshQueue({ fifo: true }),
  ]);
  const dynamoDb = new DynamoDBClient(awsClientConfig("dynamodb"));
  const dataKeys = cachedDataKeys(dynamoDbDataKeys(dynamoDb, keyTableName));
  const stored = dynamoDbEventLog(dynamoDb, tableName);
  const log = sealedEventLog(stored, dataKeys);
  const database = lazyDatabase(databaseUrl, logger);
  await migrate(database);
  const sqs = new SQSClient(awsClientConfig("sqs"));
  const frames: Stage["frames"] = [];
  const closed: string[] = [];
  const deps: Deps = {
    log,
    openCommits: log.open,
    dataKeys,
    keyRegister: dynamoDbKeyRegister(dynamoDb, keyTableName),
    logEraser: dynamoDbLogEraser(dynamoDb, tableName),
    redis: lazyRedis(ownRedisUrl, logger),
    sqs,
    database,
    sendFrame: async (connectionId, frame) => {
      frames.push({ connectionId, frame });
      return "sent";
    },
    closeConnection: async (connectionId) => {
      closed.push(connectionId);
    },
    models: modelCatalog([
      { ...guide, queueUrl: queue.url },
      { ...guide, model: "other", revision: "other-1", default: false, queueUrl: queue.url },
    ]),
    authenticate: authenticator(apiKeys, apiKeyCheck(log), issuer),
    rate: { perMinute: 60_000, burst: 10_000 },
    admission: {
      ...{ tenantInFlight: 10_000, defaultRoom: 10_000, roomFactor: 2 },
      ...{ tenantHeld: 100, maxWaitMs: 120_000, tenantWeights: {} },
    },
    facts: { stage: "test", reportsQueueUrl: reports.url },
    cluster: { observe: noCluster, follow: noCluster },
    readObject: async () => undefined,
    now: Date.now,
    logger,
  };
  return {
    deps,
    frames,
    closed,
    framesTo: (id) => frames.filter((sent) => sent.connectionId === id).map(({ frame }) => frame),
    async open(tenantId, scopes = defaultScopes) {
      const connectionId = `connection-${randomUUID()}`;
      const fields = { tenantId, userId: `user-of-${tenantId}`, scopes: scopes.join(" ") };
      await deps.redis.hset(connectionKey(connectionId), fields);
      return connectionId;
    },
    takeJobs: () => takeJobs(sqs, queue.url),
    // As the table's stream shows them, with their words sealed.
    commits: () => allCommits(stored),
    keyTableName,
    tableName,
    dynamoDb,
    async close() {
      deps.redis.disconnect();
      await database.end();
      await sqs.send(new PurgeQueueCommand({ QueueUrl: queue.url })).catch(() => {});
      sqs.destroy();
      dynamoDb.destroy();
    },
  };
}

const noCluster = (): Promise<never> =>
  Promise.reject(new ClusterError("unavailable", "There is no cluster here."));

/** Takes the jobs off a queue that are there by now. */
export async function takeJobs(sqs: SQSClient, url: string): Promise<Job[]> {
  const jobs: Job[] = [];
  for (;;) {
    const { Messages = [] } = await sqs.send(
      new ReceiveMessageCommand({ QueueUrl: url, MaxNumberOfMessages: 10 }),
    );
    if (Messages.length === 0) return jobs;
    for (const { Body = "", ReceiptHandle } of Messages) {
      jobs.push(jobSchema.parse(JSON.parse(Body)));
      await sqs.send(new DeleteMessageCommand({ QueueUrl: url, ReceiptHandle }));
    }
  }
}

async function allCommits(log: EventLog): Promise<Commit[]> {
  const commits: Commit[] = [];
  for (let shard = 0; shard < logShards; shard++) {
    let after = "";
    for (;;) {
      const page = await log.readShard(shard, after, 100);
      commits.push(...page);
      const last = page.at(-1);
      if (last === undefined) break;
      after = last.position;
    }
  }
  return commits.sort((a, b) => (a.position < b.position ? -1 : 1));
}

/** What Lambda says of an invocation. */
export const context: Context = {
  callbackWaitsForEmptyEventLoop: false,
  functionName: "test",
  functionVersion: "1",
  invokedFunctionArn: "arn:aws:lambda:us-east-1:0:function:test",
  memoryLimitInMB: "256",
  awsRequestId: "invocation",
  logGroupName: "test",
  logStreamName: "test",
  getRemainingTimeInMillis: () => 29_000,
  done: () => {},
  fail: () => {},
  succeed: () => {},
};

/** The event of a frame, as API Gateway gives it; text stays as it is. */
export function socketEvent(connectionId: string, body: unknown): APIGatewayProxyWebsocketEventV2 {
  return {
    requestContext: {
      routeKey: "$default",
      messageId: "message",
      eventType: "MESSAGE",
      extendedRequestId: "extended",
      requestTime: "",
      messageDirection: "IN",
      stage: "test",
      connectedAt: 0,
      requestTimeEpoch: 0,
      requestId: "gateway",
      domainName: "localhost",
      connectionId,
      apiId: "api",
    },
    body: typeof body === "string" ? body : JSON.stringify(body),
    isBase64Encoded: false,
  };
}

export function httpEvent(
  path: string,
  {
    tenantId = "acme",
    query = {},
    method = "GET",
    headers = { authorization: `Bearer key-of-${tenantId}` },
  }: {
    tenantId?: string;
    query?: Record<string, string>;
    method?: string;
    headers?: Record<string, string>;
  } = {},
): APIGatewayProxyEventV2 {
  return {
    version: "2.0",
    routeKey: "$default",
    rawPath: path,
    rawQueryString: new URLSearchParams(query).toString(),
    headers,
    queryStringParameters: query,
    requestContext: {
      accountId: "0",
      apiId: "api",
      domainName: "localhost",
      domainPrefix: "",
      http: { method, path, protocol: "HTTP/1.1", sourceIp: "127.0.0.1", userAgent: "test" },
      requestId: "gateway",
      routeKey: "$default",
      stage: "$default",
      time: "",
      timeEpoch: 0,
    },
    isBase64Encoded: false,
  };
}

/** What Lambda gets of the table's stream; the sequence number of the nth record is `n`, from 1. */
export function tableEvent(commits: readonly Commit[]): DynamoDBStreamEvent {
  return {
    Records: commits.map((commit, i) => {
      const image: Record<string, AttributeValue> = {};
      for (const [name, value] of Object.entries(itemFromCommit(commit))) {
        image[name] = value.N === undefined ? { S: value.S ?? "" } : { N: value.N };
      }
      return {
        eventID: String(i),
        eventName: "INSERT",
        dynamodb: {
          Keys: { stream: { S: commit.stream }, version: { N: String(commit.version) } },
          NewImage: image,
          SequenceNumber: String(i + 1),
        },
      };
    }),
  };
}

/** What Lambda gets of a FIFO queue; the id of the nth message is `n`, from 1. */
export function queueEvent(messages: readonly { group: string; body: string }[]): SQSEvent {
  return {
    Records: messages.map(({ group, body }, i) => ({
      messageId: String(i + 1),
      receiptHandle: "handle",
      body,
      attributes: {
        ApproximateReceiveCount: "1",
        SentTimestamp: "0",
        SenderId: "test",
        ApproximateFirstReceiveTimestamp: "0",
        MessageGroupId: group,
      },
      messageAttributes: {},
      md5OfBody: "",
      eventSource: "aws:sqs",
      eventSourceARN: "arn:aws:sqs:us-east-1:0:reports.fifo",
      awsRegion: "us-east-1",
    })),
  };
}

export const reportsEvent = (...reports: Report[]): SQSEvent =>
  queueEvent(reports.map((report) => ({ group: report.turnId, body: JSON.stringify(report) })));

const runner = (turnId: string, epoch: number) => ({
  version: 1 as const,
  turnId,
  groupId: "g1",
  leaderId: `leader-${epoch}`,
  epoch,
  at: Date.now(),
  correlationId: "test",
});

export const startedReport = (turnId: string, epoch = 1): Report => ({
  type: "started",
  ...runner(turnId, epoch),
  emittedTokens: 0,
});

export const timings = { queuedMs: 1, firstTokenMs: 2, totalMs: 3 };

export function endReport(
  turnId: string,
  text: string,
  type: "completed" | "cancelled" | "failed" = "completed",
  epoch = 1,
): Report {
  const completionTokens = text === "" ? 0 : text.split(/(?= )/).length;
  const ending = {
    ...runner(turnId, epoch),
    startedAt: Date.now(),
    text,
    usage: { promptTokens: 5, completionTokens },
    timings,
  };
  if (type === "completed") return { type, ...ending, finishReason: "stop" };
  if (type === "failed") return { type, ...ending, code: "internal", message: "It broke." };
  return { type, ...ending, reason: "user" };
}

const tokenFields = (text: string, token: number) => [
  ...["text", text, "token", String(token), "epoch", "1"],
];

/** Writes an answer to the token stream as a leader does, word by word; sealed unless it goes on. */
export async function writeStream(
  { redis }: Deps,
  turnId: string,
  answer: string,
  finishReason: StreamEnd["finishReason"] | "goes on" = "stop",
): Promise<void> {
  const words = answer === "" ? [] : answer.split(/(?= )/);
  const fields = { epoch: 1, leaderId: "leader-1", lastSeq: words.length, tenantId: "acme" };
  await redis.hset(turnKey(turnId), fields);
  for (const [i, text] of words.entries()) {
    await redis.xadd(turnTokensKey(turnId), `${i + 1}-0`, ...tokenFields(text, i));
  }
  if (finishReason === "goes on") return;
  const end: StreamEnd = {
    lastSeq: words.length,
    epoch: words.length > 0 ? 1 : 0,
    finishReason,
    usage: { promptTokens: 5, completionTokens: words.length },
    timings,
  };
  const fieldsOfEnd = ["end", JSON.stringify(end), "epoch", "1"];
  await redis.xadd(turnTokensKey(turnId), `${words.length + 1}-0`, ...fieldsOfEnd);
  await redis.hset(turnKey(turnId), "sealed", "1");
}

export const eventTypes = (commits: readonly Commit[]): DomainEvent["type"][] =>
  commits.flatMap(({ events }) => events.map(({ type }) => type));
