import { randomUUID } from "node:crypto";
import { Logger } from "@aws-lambda-powertools/logger";
import {
  DeleteMessageCommand,
  GetQueueAttributesCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import { Redis } from "ioredis";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { EngineEvent } from "../../dataplane/engine/engine.ts";
import { EngineError } from "../../dataplane/engine/engine-error.ts";
import { SqsJobQueue } from "../../dataplane/job-queue.ts";
import { Leader } from "../../dataplane/leader.ts";
import { readEntries, tokenStream } from "../../dataplane/token-stream.ts";
import { TokenWriter } from "../../dataplane/token-writer.ts";
import type { Job, Report } from "../../events/jobs.ts";
import { turnKey, turnTokensKey, turnWatchersKey } from "../../events/redis-keys.ts";
import type { Sampling } from "../../events/sampling.ts";
import { eventually } from "../support/eventually.ts";
import { awsClientConfig, freshQueue, freshRedis } from "../support/parts.ts";
import {
  type SyntheticEngine,
  syntheticEngine,
  syntheticText,
  wordsTokenizer,
} from "../support/synthetic-engine.ts";

/** A leader with a synthetic engine, on a real Redis and real queues. */

const logger = new Logger({ serviceName: "test", logLevel: "SILENT" });
let redis: Redis;
let sqs: SQSClient;
let urls: { jobsQueueUrl: string; deadLetterQueueUrl: string; reportsQueueUrl: string };
let leaders: { leader: Leader; redis: Redis; done: Promise<unknown> }[];

beforeEach(async () => {
  redis = new Redis(await freshRedis());
  sqs = new SQSClient(awsClientConfig("sqs"));
  const jobs = await freshQueue();
  const reports = await freshQueue({ fifo: true });
  urls = {
    jobsQueueUrl: jobs.url,
    deadLetterQueueUrl: jobs.deadLetterUrl,
    reportsQueueUrl: reports.url,
  };
  leaders = [];
});

afterEach(async () => {
  for (const running of leaders) {
    await running.leader.drain(0);
    running.redis.disconnect();
  }
  redis.disconnect();
  sqs.destroy();
});

function startLeader(
  engine: SyntheticEngine,
  leaderId = "leader",
  { tokenizer = wordsTokenizer, abandonMs = 0 } = {},
) {
  const own = redis.duplicate({ maxRetriesPerRequest: null });
  const stream = tokenStream(own);
  const leader = new Leader({
    ...{ engine, stream, leaderId, groupId: `group-of-${leaderId}`, logger, now: Date.now },
    ...{ tokenizer, revision: "r", abandonMs },
    queue: new SqsJobQueue(sqs, urls, () => {}),
    writer: new TokenWriter(stream, { now: Date.now, onError: () => {} }),
  });
  const done = leader.run().then(
    () => undefined,
    (error: unknown) => error,
  );
  leaders.push({ leader, redis: own, done });
  return { leader, redis: own, done };
}

const sampling: Sampling = {
  ...{ maxTokens: 100, temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
  ...{ stop: [], seed: 1 },
};

function jobFor(turnId: string, overrides: Partial<Job> = {}): Job {
  return {
    ...{ version: 1, turnId, tenantId: "t", conversationId: "c", revision: "r" },
    messages: [{ role: "user", content: "count please" }],
    sampling,
    requestedAt: Date.now(),
    ...{ correlationId: "x", priority: "interactive" },
    ...overrides,
  };
}

async function send(body: unknown): Promise<void> {
  const MessageBody = typeof body === "string" ? body : JSON.stringify(body);
  await sqs.send(new SendMessageCommand({ QueueUrl: urls.jobsQueueUrl, MessageBody }));
}

async function receive(queueUrl: string, most = 10) {
  const { Messages = [] } = await sqs.send(
    new ReceiveMessageCommand({
      QueueUrl: queueUrl,
      MaxNumberOfMessages: most,
      MessageAttributeNames: ["All"],
      VisibilityTimeout: 60,
    }),
  );
  return Messages;
}

/** Reports in the order of the queue, until one of them is terminal. */
async function reportsOf(turnId: string): Promise<Report[]> {
  const reports: Report[] = [];
  return eventually(async () => {
    for (const { Body = "", ReceiptHandle } of await receive(urls.reportsQueueUrl)) {
      const report = JSON.parse(Body) as Report;
      if (report.turnId === turnId) reports.push(report);
      await sqs.send(new DeleteMessageCommand({ QueueUrl: urls.reportsQueueUrl, ReceiptHandle }));
    }
    return reports.some((report) => report.type !== "started") && reports;
  });
}

async function stored(turnId: string) {
  return readEntries(await redis.xrange(turnTokensKey(turnId), "-", "+"));
}

const sealed = (turnId: string) =>
  eventually(async () => (await stored(turnId)).end !== undefined && (await stored(turnId)));

async function jobsLeft(): Promise<number> {
  const { Attributes = {} } = await sqs.send(
    new GetQueueAttributesCommand({ QueueUrl: urls.jobsQueueUrl, AttributeNames: ["All"] }),
  );
  return (
    Number(Attributes["ApproximateNumberOfMessages"]) +
    Number(Attributes["ApproximateNumberOfMessagesNotVisible"])
  );
}

describe("a job", () => {
  test("becomes a sealed stream and two reports, and is deleted", async () => {
    const turnId = randomUUID();
    startLeader(syntheticEngine({ tokens: 20 }));
    await send(jobFor(turnId));
    const [started, completed] = await reportsOf(turnId);
    expect(started).toMatchObject({ type: "started", leaderId: "leader", emittedTokens: 0 });
    expect(completed).toMatchObject({
      ...{ type: "completed", finishReason: "stop", text: syntheticText(20) },
      usage: { promptTokens: 2, completionTokens: 20 },
    });
    const { tokens, end } = await stored(turnId);
    expect(tokens.map(({ token }) => token)).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(end).toMatchObject({ lastSeq: 20, finishReason: "stop" });
    await eventually(async () => (await jobsLeft()) === 0);
  });

  test("that is sent twice is answered once", async () => {
    const turnId = randomUUID();
    const engine = syntheticEngine({ tokens: 10, msPerToken: 5 });
    startLeader(engine);
    await Promise.all([send(jobFor(turnId)), send(jobFor(turnId))]);
    await sealed(turnId);
    await eventually(async () => (await jobsLeft()) === 0);
    expect(engine.requests).toHaveLength(1);
    expect((await stored(turnId)).tokens).toHaveLength(10);
  });

  test.each([
    ["is not JSON", "{oops", /not JSON/],
    ["lacks its messages", { ...jobFor("t1"), messages: [] }, /messages/],
    ["is of a version to come", { ...jobFor("t2"), version: 2 }, /version/],
  ])(
    "that %s goes to the dead letters with the reason, and the leader lives on",
    async (_, body, reason) => {
      startLeader(syntheticEngine({ tokens: 1 }));
      await send(body);
      const [dead] = await eventually(async () => {
        const messages = await receive(urls.deadLetterQueueUrl);
        return messages.length > 0 && messages;
      });
      expect(dead?.Body).toBe(typeof body === "string" ? body : JSON.stringify(body));
      expect(dead?.MessageAttributes?.["reason"]?.StringValue).toMatch(reason);
      const turnId = randomUUID();
      await send(jobFor(turnId));
      expect((await sealed(turnId)).tokens).toHaveLength(1);
    },
  );

  test("with a stop string ends before it, and the engine is told to stop", async () => {
    const turnId = randomUUID();
    const engine = syntheticEngine({ tokens: 100, msPerToken: 2 });
    startLeader(engine);
    await send(jobFor(turnId, { sampling: { ...sampling, stop: ["99", " 12 1"] } }));
    const text = syntheticText(11).trimEnd();
    expect((await reportsOf(turnId)).at(-1)).toMatchObject({
      ...{ type: "completed", finishReason: "stop", text },
      usage: { completionTokens: 13 },
    });
    const { tokens, end } = await stored(turnId);
    expect(tokens.map((token) => token.text).join("")).toBe(text);
    expect(end).toMatchObject({ lastSeq: 13, finishReason: "stop" });
    await eventually(() => engine.health().runningTurns === 0);
  });

  test("of the previous version, without the newer sampling values, runs as it always did", async () => {
    const turnId = randomUUID();
    const engine = syntheticEngine({ tokens: 3 });
    startLeader(engine);
    const { minP: _, repetitionPenalty: __, stop: ___, ...before } = sampling;
    await send({ ...jobFor(turnId), sampling: before });
    expect((await reportsOf(turnId)).at(-1)).toMatchObject({ text: syntheticText(3) });
    expect(engine.requests[0]?.sampling).toMatchObject({ minP: 0, repetitionPenalty: 1 });
  });

  test("is reported whole, whatever characters the answer is made of", async () => {
    const tokenizer = {
      ...wordsTokenizer,
      detokenizer: () => ({ push: () => "🚀\uffff漢 ", flush: () => "" }),
    };
    startLeader(syntheticEngine({ tokens: 2 }), "leader", { tokenizer });
    const turnId = randomUUID();
    await send(jobFor(turnId));
    expect((await reportsOf(turnId)).at(-1)).toMatchObject({ text: "🚀\uffff漢 🚀\uffff漢 " });
  });

  test("gives the engine the values that it names", async () => {
    const engine = syntheticEngine({ tokens: 1 });
    startLeader(engine);
    const turnId = randomUUID();
    const wild = {
      temperature: 1.5,
      topK: 9,
      topP: 0.7,
      minP: 0.1,
      repetitionPenalty: 1.3,
      seed: 5,
    };
    await send(jobFor(turnId, { sampling: { maxTokens: 7, stop: ["x"], ...wild } }));
    await sealed(turnId);
    expect(engine.requests[0]).toMatchObject({ maxTokens: 7, sampling: wild });
  });

  test("whose prompt is too long for the model fails, and says what to do", async () => {
    const turnId = randomUUID();
    startLeader(syntheticEngine({ tokens: 5, contextLength: 50 }));
    await send(jobFor(turnId, { messages: [{ role: "user", content: "word ".repeat(60) }] }));
    const reports = await reportsOf(turnId);
    expect(reports.at(-1)).toMatchObject({ type: "failed", code: "prompt_too_long" });
    expect((await stored(turnId)).end?.error?.message).toMatch(/50 tokens. Shorten it/);
  });

  test("beyond the free slots waits in the queue", async () => {
    const engine = syntheticEngine({ tokens: 10, msPerToken: 10, slots: 2 });
    const { leader } = startLeader(engine);
    const turnIds = Array.from({ length: 5 }, () => randomUUID());
    await Promise.all(turnIds.map((turnId) => send(jobFor(turnId))));
    let most = 0;
    await eventually(async () => {
      most = Math.max(most, leader.running);
      const ends = await Promise.all(turnIds.map(async (turnId) => (await stored(turnId)).end));
      return ends.every((end) => end !== undefined);
    });
    expect(most).toBe(2);
  });

  test("is not taken while others have all the room of the engine, and then it is", async () => {
    const engine = syntheticEngine({ tokens: 3, slots: 4 });
    let room = 1;
    const shared = { ...engine, health: () => ({ ...engine.health(), room }) };
    const { leader } = startLeader(shared);
    room = 0;
    // The first look at the queue was for one.
    const turnIds = Array.from({ length: 3 }, () => randomUUID());
    await Promise.all(turnIds.map((turnId) => send(jobFor(turnId))));
    const ended = async () => {
      const ends = await Promise.all(turnIds.map(async (turnId) => (await stored(turnId)).end));
      return ends.filter((end) => end !== undefined).length;
    };
    await eventually(async () => (await ended()) === 1);
    await eventually(async () => leader.running === 0);
    expect(engine.requests).toHaveLength(1);
    room = 4;
    await eventually(async () => (await ended()) === 3);
  });

  test("that the engine refuses as it is ends as failed, with its reason", async () => {
    const turnId = randomUUID();
    const engine = syntheticEngine({ tokens: 3 });
    // biome-ignore lint/correctness/useYield: it refuses before it says anything.
    async function* generate(): AsyncGenerator<EngineEvent> {
      throw new EngineError("invalid_request", "The server knows no such thing.");
    }
    startLeader({ ...engine, generate });
    await send(jobFor(turnId));
    expect((await reportsOf(turnId)).at(-1)).toMatchObject({
      ...{ type: "failed", code: "invalid_request", message: "The server knows no such thing." },
    });
    const { end } = await stored(turnId);
    expect(end).toMatchObject({ finishReason: "failed", lastSeq: 0 });
  });
});

describe("a cancel", () => {
  test("of a running turn ends it and keeps what was said", async () => {
    const turnId = randomUUID();
    const { leader } = startLeader(syntheticEngine({ tokens: 100, msPerToken: 20 }));
    await send(jobFor(turnId));
    await eventually(async () => (await stored(turnId)).tokens.length >= 3);
    leader.cancel(turnId);
    const report = (await reportsOf(turnId)).at(-1);
    const { tokens, end } = await stored(turnId);
    expect(end?.finishReason).toBe("cancelled");
    expect(tokens.length).toBeLessThan(100);
    expect(report).toMatchObject({ type: "cancelled", text: syntheticText(tokens.length) });
  });

  test("that came before the claim ends the turn without a token", async () => {
    const turnId = randomUUID();
    await redis.hset(turnKey(turnId), "cancel", "user");
    startLeader(syntheticEngine({ tokens: 100, msPerToken: 5 }));
    await send(jobFor(turnId));
    expect(await sealed(turnId)).toMatchObject({ tokens: [], end: { finishReason: "cancelled" } });
  });

  test("that only Redis knows of is found with the next renewal", async () => {
    const turnId = randomUUID();
    startLeader(syntheticEngine({ tokens: 1_000, msPerToken: 20 }));
    await send(jobFor(turnId, { sampling: { ...sampling, maxTokens: 1_000 } }));
    await eventually(async () => (await stored(turnId)).tokens.length > 0);
    await redis.hset(turnKey(turnId), "cancel", "user");
    expect((await sealed(turnId)).end?.finishReason).toBe("cancelled");
  });
});

describe("a turn that nobody watches", () => {
  const watch = (turnId: string) => redis.hset(turnWatchersKey(turnId), "c1", "0:0");
  const long = { sampling: { ...sampling, maxTokens: 1_000 } };

  test("is cancelled after a while, and the report says why", async () => {
    const turnId = randomUUID();
    startLeader(syntheticEngine({ tokens: 1_000, msPerToken: 20 }), "leader", { abandonMs: 1_500 });
    await send(jobFor(turnId, long));
    const report = (await reportsOf(turnId)).at(-1);
    expect(report).toMatchObject({ type: "cancelled", reason: "abandoned" });
    expect((await stored(turnId)).end?.finishReason).toBe("cancelled");
  });

  test("goes on when someone comes back in time", async () => {
    const turnId = randomUUID();
    startLeader(syntheticEngine({ tokens: 250, msPerToken: 20 }), "leader", { abandonMs: 2_500 });
    await watch(turnId);
    await send(jobFor(turnId, long));
    await eventually(async () => (await stored(turnId)).tokens.length >= 5);
    await redis.del(turnWatchersKey(turnId));
    await eventually(async () => (await redis.hexists(turnKey(turnId), "unwatchedAt")) === 1);
    await watch(turnId);
    expect((await reportsOf(turnId)).at(-1)).toMatchObject({ type: "completed" });
  });
});

describe("when something dies", () => {
  /** A leader that has said `count` tokens and is gone. @returns its epoch. */
  async function dead(turnId: string, count: number, leaseMs = 1_000): Promise<number> {
    const stream = tokenStream(redis);
    const leader = { leaderId: "dead", groupId: "g", leaseMs };
    const claim = await stream.claim(jobFor(turnId), leader);
    if (claim.status !== "claimed") throw new Error(`The turn is ${claim.status}.`);
    const { epoch } = claim;
    const tokens = Array.from({ length: count }, (_, i) => ({ text: `${i + 1} `, token: i + 1 }));
    if (count > 0) {
      expect(await stream.appendAll([{ turnId, epoch, from: 1, tokens }])).toEqual(["ok"]);
    }
    return epoch;
  }

  test("between seal and report, the next delivery sends the report", async () => {
    const turnId = randomUUID();
    const epoch = await dead(turnId, 1);
    await tokenStream(redis).seal(jobFor(turnId), epoch, {
      ...{ lastSeq: 1, epoch, finishReason: "stop" },
      usage: { promptTokens: 2, completionTokens: 1 },
      timings: { queuedMs: 1, firstTokenMs: 2, totalMs: 3 },
    });
    const engine = syntheticEngine({ tokens: 5 });
    startLeader(engine);
    await send(jobFor(turnId));
    const [report] = await reportsOf(turnId);
    expect(report).toMatchObject({
      ...{ type: "completed", text: "1 ", leaderId: "dead", epoch },
      timings: { queuedMs: 1, firstTokenMs: 2, totalMs: 3 },
    });
    expect(engine.requests).toEqual([]);
    await eventually(async () => (await jobsLeft()) === 0);
  });

  test("a leader, the next one goes on after its last token", async () => {
    const turnId = randomUUID();
    const epoch = await dead(turnId, 3);
    const engine = syntheticEngine({ tokens: 6 });
    startLeader(engine);
    await send(jobFor(turnId));
    const reports = await reportsOf(turnId);
    expect(reports[0]).toMatchObject({ type: "started", emittedTokens: 3 });
    expect(reports[0]?.epoch).toBeGreaterThan(epoch);
    expect(reports.at(-1)).toMatchObject({ type: "completed", text: syntheticText(6) });
    expect(engine.requests[0]?.emittedTokens).toEqual([1, 2, 3]);
    const { tokens, end } = await stored(turnId);
    expect(tokens.map((token) => token.epoch === epoch)).toEqual([
      ...[true, true, true, false, false, false],
    ]);
    expect(end?.epoch).toBe(tokens.at(-1)?.epoch);
  });

  test("a leader, its turn goes on when its lease ends, whatever the queue does", async () => {
    const turnId = randomUUID();
    await dead(turnId, 3, 500);
    const engine = syntheticEngine({ tokens: 6 });
    startLeader(engine);
    const reports = await reportsOf(turnId);
    expect(reports.at(-1)).toMatchObject({ type: "completed", text: syntheticText(6) });
    expect(engine.requests[0]?.emittedTokens).toEqual([1, 2, 3]);
    // Its job comes later, and has nothing more to do.
    await send(jobFor(turnId));
    await eventually(async () => (await jobsLeft()) === 0);
    expect(engine.requests).toHaveLength(1);
  });

  test("one leader after the other before the next token, the turn ends as failed", async () => {
    const turnId = randomUUID();
    for (let i = 0; i < 10; i++) await dead(turnId, 0);
    const engine = syntheticEngine({ tokens: 6 });
    startLeader(engine);
    await send(jobFor(turnId));
    expect((await reportsOf(turnId)).at(-1)).toMatchObject({
      ...{ type: "failed", code: "undeliverable", message: expect.stringMatching(/10 leaders/) },
    });
    expect(engine.requests).toEqual([]);
  });

  test("Redis's data, the turn goes on as if it had not", async () => {
    const turnId = randomUUID();
    startLeader(syntheticEngine({ tokens: 60, msPerToken: 20 }));
    await send(jobFor(turnId));
    await eventually(async () => (await stored(turnId)).tokens.length >= 5);
    await redis.flushdb();
    await eventually(async () => (await stored(turnId)).tokens.length >= 20);
    await redis.flushdb();
    const { tokens } = await sealed(turnId);
    expect(tokens.map(({ token }) => token)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    const reports = await reportsOf(turnId);
    expect(reports.map(({ type }) => type)).toEqual(["started", "completed"]);
  });

  test("the turn is taken away while a leader runs it, that leader says no more", async () => {
    const turnId = randomUUID();
    const { leader } = startLeader(syntheticEngine({ tokens: 500, msPerToken: 10 }), "slow");
    await send(jobFor(turnId, { sampling: { ...sampling, maxTokens: 500 } }));
    await eventually(async () => (await stored(turnId)).tokens.length >= 2);
    await redis.hset(turnKey(turnId), "leaseUntilMs", 0);
    const other = { leaderId: "other", groupId: "g", leaseMs: 60_000 };
    const claim = await tokenStream(redis).claim(jobFor(turnId), other);
    expect(claim).toMatchObject({ status: "claimed" });
    const before = (await stored(turnId)).tokens.length;
    await eventually(() => leader.running === 0);
    const { tokens, end } = await stored(turnId);
    expect(tokens).toHaveLength(before);
    expect(end).toBeUndefined();
  });

  test("the engine, the group ends and its turns are free for the next", async () => {
    const turnId = randomUUID();
    const engine = syntheticEngine({ tokens: 50, msPerToken: 10 });
    const first = startLeader(engine, "first");
    await send(jobFor(turnId));
    await eventually(async () => (await stored(turnId)).tokens.length >= 2);
    engine.fail();
    expect(await first.done).toMatchObject({ code: "rank_lost" });
    await first.leader.drain(0);
    startLeader(syntheticEngine({ tokens: 50 }), "second");
    const { tokens, end } = await sealed(turnId);
    expect(tokens.map(({ token }) => token)).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
    expect(end?.finishReason).toBe("stop");
    expect(new Set(tokens.map(({ epoch }) => epoch)).size).toBe(2);
  });

  test("the connection to Redis, no token is lost", async () => {
    const turnId = randomUUID();
    const { redis: own } = startLeader(syntheticEngine({ tokens: 60, msPerToken: 5 }));
    await send(jobFor(turnId));
    for (const atLeast of [5, 20, 40]) {
      await eventually(async () => (await stored(turnId)).tokens.length >= atLeast);
      await redis.client("KILL", "ID", await own.client("ID"));
    }
    const { tokens } = await sealed(turnId);
    expect(tokens.map(({ token }) => token)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
  });
});

test("a leader that retires ends its turns, and takes no others, not those of the dead either", async () => {
  const [running, later, orphan] = [randomUUID(), randomUUID(), randomUUID()];
  const old = startLeader(syntheticEngine({ tokens: 60, msPerToken: 20 }), "old");
  await send(jobFor(running));
  await eventually(async () => (await stored(running)).tokens.length >= 2);
  const dead = startLeader(syntheticEngine({ tokens: 60, msPerToken: 50 }), "dead");
  await send(jobFor(orphan));
  await eventually(() => old.leader.running + dead.leader.running === 2);
  old.leader.retire();
  expect(old.leader.isAccepting).toBe(false);
  await send(jobFor(later));
  await dead.leader.drain(0);
  expect((await sealed(running)).tokens).toHaveLength(60);
  await old.done;
  expect(old.leader.running).toBe(0);
  expect((await stored(later)).end).toBeUndefined();
  startLeader(syntheticEngine({ tokens: 60 }), "new");
  await Promise.all([sealed(later), sealed(orphan)]);
});

describe("a drain", () => {
  test("lets running turns end", async () => {
    const turnId = randomUUID();
    const { leader } = startLeader(syntheticEngine({ tokens: 20, msPerToken: 10 }));
    await send(jobFor(turnId));
    await eventually(() => leader.running === 1);
    await leader.drain(10_000);
    expect((await stored(turnId)).end?.finishReason).toBe("stop");
    await send(jobFor(randomUUID()));
    expect(leader.running).toBe(0);
  });

  test("hands over at the deadline what has not ended", async () => {
    const turnId = randomUUID();
    const { leader } = startLeader(syntheticEngine({ tokens: 60, msPerToken: 20 }), "old");
    await send(jobFor(turnId));
    await eventually(async () => (await stored(turnId)).tokens.length >= 2);
    await leader.drain(50);
    const { tokens, end } = await stored(turnId);
    expect(end).toBeUndefined();
    startLeader(syntheticEngine({ tokens: 60 }), "new");
    const whole = await sealed(turnId);
    expect(whole.tokens.slice(0, tokens.length)).toEqual(tokens);
    expect(whole.tokens).toHaveLength(60);
  });
});
