import { randomUUID } from "node:crypto";
import { ReceiveMessageCommand, SendMessageBatchCommand, SQSClient } from "@aws-sdk/client-sqs";
import type { DynamoDBStreamEvent, S3Event } from "aws-lambda";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { SqsJobQueue } from "../../dataplane/job-queue.ts";
import { type Job, jobSchema, messageBody, reportSchema } from "../../events/jobs.ts";
import {
  contextKey,
  groupBeatKey,
  groupsKey,
  rateKey,
  routeKey,
  turnKey,
  warmingKey,
} from "../../events/redis-keys.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { manifest } from "../../functions/manifest.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import {
  context,
  endReport,
  guide,
  queueEvent,
  reportsEvent,
  type Stage,
  startedReport,
  startStage,
  tableEvent,
} from "../functions/stage.ts";
import { HeardLogger } from "../support/heard-logger.ts";
import { awsClientConfig, freshQueue } from "../support/parts.ts";
import { body, cases, deep, isSound, mark, text, value } from "./arbitraries.ts";
import { frameDoors, say } from "./doors.ts";

/**
 * Nonsense where only our own parts write: queues, the table's stream, the bucket, Redis. It ends where
 * somebody can look at it, stops nothing that comes after it, and leaves no words in log lines.
 */

let stage: Stage;
let deps: Deps;
let logger: HeardLogger;

beforeAll(async () => {
  stage = await startStage();
});
afterAll(() => stage.close());
beforeEach(() => {
  logger = new HeardLogger();
  deps = { ...stage.deps, logger };
});

function logHasNoWords(): void {
  expect(logger.lines.length).toBeGreaterThan(10);
  expect(logger.lines.filter((line) => line.includes(mark))).toEqual([]);
}

async function ask(fields: Record<string, unknown> = {}) {
  const door = frameDoors["chat"];
  if (door === undefined) throw new Error("There is no door to chat.");
  const frame = { action: "chat", requestId: randomUUID(), prompt: "Well?", ...fields };
  const connectionId = await stage.open("acme");
  const { code, text } = await say(stage, connectionId, door.handler(deps), frame);
  const [first] = JSON.parse(text) as { turnId: string; conversationId: string }[];
  return { code, turnId: first?.turnId ?? "", conversationId: first?.conversationId ?? "" };
}

test("reports: what is none fails alone, and those of other turns are taken", async () => {
  const { turnId } = await ask();
  const sound = endReport("turn_none", "x") as unknown as Record<string, unknown>;
  const handle = report(deps);
  await fc.assert(
    fc.asyncProperty(body(sound), async (wrong) => {
      fc.pre(!isSound(reportSchema, wrong));
      const event = queueEvent([{ group: "other", body: wrong }]);
      const { Records } = reportsEvent(startedReport(turnId));
      const good = Records.map((record) => ({ ...record, messageId: "good" }));
      const { batchItemFailures } = await handle({ Records: [...event.Records, ...good] }, context);
      expect(batchItemFailures).toEqual([{ itemIdentifier: "1" }]);
    }),
    cases(80),
  );
  logHasNoWords();
});

test("records of the table's stream: the batch goes on from the first that is none", async () => {
  const commits = (await stage.commits()).slice(0, 1);
  const image = fc.oneof(
    body({
      type: "TurnAdded",
      version: 1,
      at: 1,
      conversationId: "c",
      turnId: "t",
      ordinal: 1,
    }).map((event) => ({ events: { S: `[${event}]` } })),
    text.map((stream) => ({ stream: { S: stream }, events: { S: "[{}]" } })),
    value.map((events) => ({ events })),
    fc.constantFrom({ events: { S: deep } }, { version: { N: "x" }, events: undefined }),
  );
  const handle = project(deps);
  await fc.assert(
    fc.asyncProperty(image, async (wrong) => {
      const event = tableEvent([...commits, ...commits]);
      const [first] = event.Records;
      Object.assign(first?.dynamodb ?? {}, { Keys: { stream: { S: "other" } } });
      Object.assign(first?.dynamodb?.NewImage ?? {}, wrong);
      const { batchItemFailures } = await handle(event as DynamoDBStreamEvent, context);
      expect(batchItemFailures).toEqual([{ itemIdentifier: "1" }]);
    }),
    { ...cases(60), examples: [[{ events: { S: '[{"type":"TurnAdded"}]' } }]] },
  );
  logHasNoWords();
});

test("jobs: what is none is put among the dead letters, with the reason, and holds up no other", async () => {
  const sqs = new SQSClient(awsClientConfig("sqs"));
  const [jobs, dead] = await Promise.all([freshQueue(), freshQueue()]);
  const job: Job = {
    ...{ version: 1, turnId: "t", tenantId: "acme", conversationId: "c", revision: "r" },
    messages: [{ role: "user", content: "Well?" }],
    sampling: { ...guide.sampling, seed: 1 },
    ...{ requestedAt: 1, correlationId: "x", priority: "interactive" },
  };
  // A queue takes no empty body, and characters of XML only.
  const wrong = fc
    .sample(body(job as unknown as Record<string, unknown>), { seed: 20_260_131, numRuns: 60 })
    .filter((sent) => !isSound(jobSchema, sent))
    .map((sent) => sent.toWellFormed().replace(/[^\t\n\r\x20-\ud7ff]/g, "?"))
    .filter((sent) => sent.trim() !== "");
  const named = messageBody({ ...job, "a\u0000\ufffe\u0007": 1 });
  const sent = [...wrong, named, JSON.stringify(job)];
  for (let i = 0; i < sent.length; i += 10) {
    const Entries = sent.slice(i, i + 10).map((MessageBody, at) => ({ Id: `m${at}`, MessageBody }));
    const { Failed } = await sqs.send(new SendMessageBatchCommand({ QueueUrl: jobs.url, Entries }));
    expect(Failed ?? []).toEqual([]);
  }
  const reasons: string[] = [];
  const urls = { jobsQueueUrl: jobs.url, deadLetterQueueUrl: dead.url, reportsQueueUrl: dead.url };
  const queue = new SqsJobQueue(sqs, urls, (_, reason) => reasons.push(reason));
  const taken: Job[] = [];
  const signal = AbortSignal.timeout(10_000);
  while (taken.length + reasons.length < sent.length) {
    for (const delivery of await queue.receive(10, signal)) taken.push(delivery.job);
  }
  expect(taken).toEqual([job]);
  expect(reasons).toHaveLength(sent.length - 1);
  const { Messages = [] } = await sqs.send(
    new ReceiveMessageCommand({ QueueUrl: dead.url, MessageAttributeNames: ["All"] }),
  );
  expect(Messages[0]?.MessageAttributes?.["reason"]?.StringValue).toMatch(/\w/);
  sqs.destroy();
});

test("manifests: what is no request is refused in the log, with the reason", async () => {
  const model = `m-${randomUUID().slice(0, 8)}`;
  const sound = { revision: "r2", steps: [10, 100], bakeMs: 1, gates: {}, scale: {} };
  let read = "";
  let count = 0;
  const handle = manifest({ ...deps, readObject: async () => read });
  await fc.assert(
    fc.asyncProperty(body(sound), async (sent) => {
      read = sent;
      const object = { key: `rollouts/${model}/${count}.json`, eTag: String(count++) };
      const event = { Records: [{ s3: { bucket: { name: "models" }, object } }] };
      expect(await handle(event as unknown as S3Event, context)).toEqual({ handled: 1 });
    }),
    cases(60),
  );
  const commits = (await stage.commits()).filter(({ stream }) => stream === `rollout/${model}`);
  expect(commits.length).toBeGreaterThan(40);
});

test("values in Redis: a chat is accepted or refused, and what can be made again is", async () => {
  const { conversationId, turnId } = await ask();
  await report(deps)(reportsEvent(startedReport(turnId), endReport(turnId, "Yes.")), context);
  const { redis } = deps;
  const wrong = fc.oneof(body([{ turnId: "t", messages: [] }] as never), text);
  const key = fc.constantFrom("context", "weights", "warming", "beat", "rate", "turn");
  const revision = guide.revision;
  const put: Record<string, (text: string) => Promise<unknown>> = {
    context: (text) => redis.set(contextKey(conversationId), text),
    weights: (text) => redis.hset(routeKey(guide.model), "weights", text),
    warming: (text) => redis.set(warmingKey(revision), text),
    async beat(text) {
      await redis.zadd(groupsKey(revision), Date.now(), "g1");
      await redis.set(groupBeatKey("g1"), text);
    },
    rate: (text) => redis.hset(rateKey("acme"), { tokens: text, refilledAtMs: text }),
    turn: (text) => redis.hset(turnKey(turnId), { lastSeq: text, epoch: text }),
  };
  await fc.assert(
    fc.asyncProperty(key, wrong, async (name, sent) => {
      await put[name]?.(sent);
      const { code } = await ask(name === "context" ? { conversationId } : {});
      const allowed =
        name === "weights" ? [undefined, "unavailable", "unknown_model"] : [undefined];
      expect(name === "context" ? [...allowed, "conversation_busy"] : allowed, name).toContain(
        code,
      );
      await redis.del(
        routeKey(guide.model),
        warmingKey(revision),
        groupBeatKey("g1"),
        rateKey("acme"),
      );
    }),
    cases(60),
  );
  logHasNoWords();
});
