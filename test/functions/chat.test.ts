import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { conversationStream, turnStream } from "../../events/event-log.ts";
import type { ErrorFrame, ServerFrame } from "../../events/frames.ts";
import { conversationIdFor, turnIdFor } from "../../events/ids.ts";
import type { Job } from "../../events/jobs.ts";
import { limits } from "../../events/limits.ts";
import { redisSubscriber } from "../../events/redis-client.ts";
import {
  connectionTurnsKey,
  contextKey,
  relayShardOf,
  shardChannel,
  shardTurnsKey,
  turnKey,
  turnSentKey,
  turnTokensKey,
  turnWatchersKey,
} from "../../events/redis-keys.ts";
import { cancel } from "../../functions/cancel.ts";
import { chat } from "../../functions/chat.ts";
import { lazyRedis } from "../../functions/lib/redis.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import { unrouted } from "../../functions/unrouted.ts";
import {
  context,
  endReport,
  eventTypes,
  logger,
  reportsEvent,
  type Stage,
  socketEvent,
  startedReport,
  startStage,
  tableEvent,
  writeStream,
} from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await startStage();
});
afterAll(() => stage.close());
beforeEach(() => stage.takeJobs());

const newFrame = (more: Record<string, unknown> = {}) => ({
  action: "chat",
  requestId: randomUUID(),
  prompt: "What is a turn?",
  ...more,
});

/** Sends a frame from a connection of the tenant; what was answered. */
async function say(body: unknown, tenantId = "acme"): Promise<ServerFrame[]> {
  return (await sayOn(await stage.open(tenantId), body)).frames;
}

async function sayOn(connectionId: string, body: unknown) {
  const before = stage.framesTo(connectionId).length;
  const result = await chat(stage.deps)(socketEvent(connectionId, body), context);
  expect(result).toEqual({ statusCode: 200 });
  return { connectionId, frames: stage.framesTo(connectionId).slice(before) };
}

/** Takes a prompt and gives it its whole life, up to where it is in the log. */
async function converse(prompt: string, answer: string, more: Record<string, unknown> = {}) {
  const frame = newFrame({ prompt, ...more });
  const turnId = turnIdFor("acme", frame.requestId);
  const [reply] = await say(frame);
  expect(reply).toMatchObject({ type: "accepted", turnId });
  await writeStream(stage.deps, turnId, answer);
  await report(stage.deps)(reportsEvent(startedReport(turnId), endReport(turnId, answer)), context);
  await stage.takeJobs();
  if (reply?.type !== "accepted") throw new Error("not accepted");
  return { frame, turnId, conversationId: reply.conversationId };
}

const projectAll = async () => {
  const result = await project(stage.deps)(tableEvent(await stage.commits()), context);
  expect(result).toEqual({ batchItemFailures: [] });
};

/** Everything that a refused frame must leave as it was. The rate's bucket is not part of it. */
async function footprint() {
  const { redis, database } = stage.deps;
  const keys = (await redis.keys("*")).filter(
    (key) => !key.startsWith("rate:") && !key.startsWith("connection:"),
  );
  const { rows } = await database.query("SELECT count(*)::int AS n FROM turns");
  return { commits: (await stage.commits()).length, keys: keys.length, rows };
}

const errorIn = (frames: ServerFrame[]): ErrorFrame => {
  const [frame] = frames;
  expect(frames).toHaveLength(1);
  if (frame?.type !== "error") throw new Error(`${frame?.type} is no error`);
  return frame;
};

describe("an accepted prompt", () => {
  test("is in the log of conversation and turn, on its queue, watched, and answered", async () => {
    const frame = newFrame({ sampling: { seed: 7, maxTokens: 9 } });
    const turnId = turnIdFor("acme", frame.requestId);
    const conversationId = conversationIdFor(turnId);
    const connectionId = await stage.open("acme");
    const subscriber = redisSubscriber(stage.deps.redis);
    const published: unknown[] = [];
    subscriber.on("message", (_, text: string) => published.push(JSON.parse(text)));
    await subscriber.subscribe(shardChannel(relayShardOf(turnId)));

    const { frames } = await sayOn(connectionId, frame);
    expect(frames).toEqual([
      {
        type: "accepted",
        requestId: frame.requestId,
        turnId,
        conversationId,
        model: "guide",
        revision: "guide-1",
      },
    ]);
    const [opened] = await stage.deps.log.read(conversationStream(conversationId));
    expect(opened?.events).toMatchObject([
      { type: "ConversationStarted", tenantId: "acme", title: "What is a turn?" },
      { type: "TurnAdded", turnId, ordinal: 1 },
    ]);
    const [requested] = await stage.deps.log.read(turnStream(turnId));
    const sampling = { maxTokens: 9, temperature: 0.5, topK: 10, topP: 0.9, seed: 7 };
    expect(requested?.events).toMatchObject([
      {
        type: "TurnRequested",
        conversationId,
        prompt: frame.prompt,
        revision: "guide-1",
        sampling,
      },
    ]);

    expect(await stage.takeJobs()).toMatchObject([
      {
        turnId,
        tenantId: "acme",
        conversationId,
        revision: "guide-1",
        sampling,
        messages: [
          { role: "system", content: "You are a guide." },
          { role: "user", content: "What is a turn?" },
        ],
      },
    ]);
    const { redis } = stage.deps;
    expect(await redis.hgetall(turnWatchersKey(turnId))).toEqual({ [connectionId]: "0:0" });
    expect(await redis.sismember(shardTurnsKey(relayShardOf(turnId)), turnId)).toBe(1);
    expect(await redis.smembers(connectionTurnsKey(connectionId))).toEqual([turnId]);
    expect(await redis.ttl(turnWatchersKey(turnId))).toBeGreaterThan(3_600);
    expect(await redis.ttl(turnSentKey(turnId))).toBeGreaterThan(290);
    await expect
      .poll(() => published)
      .toContainEqual({ kind: "watch", turnId, connectionId, sent: 0, epoch: 0 });
    subscriber.disconnect();
  });

  test("gets a seed where it named none", async () => {
    const frames = [newFrame(), newFrame()];
    for (const frame of frames) await say(frame);
    const seeds = (await stage.takeJobs()).map((job) => job.sampling.seed);
    expect(new Set(seeds).size).toBe(2);
  });

  test("gets the model's sampling where it named none, and its own where it did", async () => {
    const own = { minP: 0, repetitionPenalty: 2, stop: ["🚀", '"\n'] };
    const asked = newFrame({ sampling: own });
    for (const frame of [newFrame(), asked]) await say(frame);
    const jobs = (await stage.takeJobs()).map((job) => job.sampling);
    expect(jobs).toHaveLength(2);
    const model = { minP: 0.05, repetitionPenalty: 1.1, stop: ["\nUser:"] };
    for (const values of [model, own]) {
      expect(jobs).toContainEqual(expect.objectContaining({ ...values, topK: 10, topP: 0.9 }));
    }
    await projectAll();
    const { rows } = await stage.deps.database.query("SELECT sampling FROM turns WHERE id = $1", [
      turnIdFor("acme", asked.requestId),
    ]);
    expect(rows).toMatchObject([{ sampling: own }]);
  });

  test("is sent whole, whatever characters it is made of", async () => {
    const prompt = "🚀 👩‍👩‍👧‍👦 \uffff\ufffe \u2028 \\ud83d 漢字";
    await say(newFrame({ prompt }));
    expect((await stage.takeJobs())[0]?.messages.at(-1)?.content).toBe(prompt);
  });

  test("is a job for the leaders of the version before, if it asks for nothing newer", async () => {
    const bodies: string[] = [];
    const { sqs } = stage.deps;
    const send = sqs.send.bind(sqs);
    Object.assign(sqs, {
      send: ({ input }: { input: { MessageBody: string } }) => bodies.push(input.MessageBody),
    });
    const sampling = { minP: 0, repetitionPenalty: 1, stop: [] };
    await say(newFrame({ sampling })).finally(() => Object.assign(sqs, { send }));
    const [job] = bodies.map((body) => JSON.parse(body) as Job);
    const known = ["maxTokens", "seed", "temperature", "topK", "topP"];
    expect(Object.keys(job?.sampling ?? {}).sort()).toEqual(known);
  });

  test("runs on the revision of the model that it names", async () => {
    const [reply] = await say(newFrame({ model: "other" }));
    expect(reply).toMatchObject({ type: "accepted", model: "other", revision: "other-1" });
  });

  test("stays accepted when its job cannot be sent: the outbox will", async () => {
    const frame = newFrame();
    const { sqs } = stage.deps;
    const send = sqs.send.bind(sqs);
    Object.assign(sqs, { send: () => Promise.reject(new Error("no queue")) });
    const [reply] = await say(frame).finally(() => Object.assign(sqs, { send }));
    expect(reply).toMatchObject({ type: "accepted" });
    expect(await stage.deps.redis.exists(turnSentKey(turnIdFor("acme", frame.requestId)))).toBe(0);
    expect(await stage.takeJobs()).toEqual([]);
  });
});

describe("a refused frame leaves nothing behind", () => {
  const fields = { ...newFrame(), requestId: "r1" };
  const big = limits.promptBytes + 1;
  test.each<[string, unknown, Partial<ErrorFrame>]>([
    ["no JSON", "hello", { code: "invalid_frame" }],
    ["no object", "[1]", { code: "invalid_frame" }],
    ["nothing", "", { code: "invalid_frame" }],
    [
      "larger than a frame may be",
      { ...fields, more: "x".repeat(limits.frameBytes) },
      { code: "invalid_frame", requestId: "r1" },
    ],
    ["without a requestId", { action: "chat", prompt: "Hi" }, { field: "requestId" }],
    ["with a bad requestId", { ...fields, requestId: "a b" }, { field: "requestId" }],
    ["without a prompt", { action: "chat", requestId: "r1" }, { field: "prompt", requestId: "r1" }],
    ["with an empty prompt", { ...fields, prompt: " \n" }, { field: "prompt", requestId: "r1" }],
    [
      "with a prompt that is too long in bytes, not characters",
      { ...fields, prompt: "é".repeat(big / 2 + 1) },
      { code: "prompt_too_long", field: "prompt", requestId: "r1" },
    ],
    ["with an unknown field", { ...fields, temperature: 1 }, { field: "temperature" }],
    ["with a wrong value inside", { ...fields, sampling: { topP: 0 } }, { field: "sampling.topP" }],
    [
      "with a stop string that is too long",
      { ...fields, sampling: { stop: ["x", "y".repeat(limits.stopCharacters + 1)] } },
      { field: "sampling.stop.1", message: "sampling.stop.1: must be at most 64 characters." },
    ],
    [
      "with too many stop strings",
      { ...fields, sampling: { stop: ["a", "b", "c", "d", "e"] } },
      { field: "sampling.stop", message: expect.stringContaining("<=4") },
    ],
    [
      "with a penalty out of bounds",
      { ...fields, sampling: { repetitionPenalty: 0 } },
      { field: "sampling.repetitionPenalty", message: expect.stringContaining(">=0.1") },
    ],
    ["with a priority that is none", { ...fields, priority: "urgent" }, { field: "priority" }],
    ["with an unknown field inside", { ...fields, sampling: { n: 1 } }, { field: "sampling.n" }],
    [
      "for an unknown model",
      { ...fields, model: "nobody" },
      { code: "unknown_model", field: "model", requestId: "r1" },
    ],
    [
      "for a conversation that is not there",
      { ...fields, conversationId: "conv_none" },
      { code: "conversation_not_found", field: "conversationId", requestId: "r1" },
    ],
  ])("%s", async (_, body, expected) => {
    const before = await footprint();
    const error = errorIn(await say(body));
    expect(error).toMatchObject({ code: "invalid_field", retryable: false, ...expected });
    expect(error.message.length).toBeGreaterThan(20);
    expect(await footprint()).toEqual(before);
    expect(await stage.takeJobs()).toEqual([]);
  });

  test("binary", async () => {
    const connectionId = await stage.open("acme");
    const event = { ...socketEvent(connectionId, "AAECAw=="), isBase64Encoded: true };
    await chat(stage.deps)(event, context);
    expect(stage.framesTo(connectionId)).toMatchObject([{ type: "error", code: "invalid_frame" }]);
  });

  test("from a connection that nobody knows, which is closed: its client comes back by itself", async () => {
    const before = await footprint();
    const { frames } = await sayOn("connection-unknown", newFrame({ requestId: "r1" }));
    expect(frames).toEqual([]);
    expect(stage.closed).toEqual(["connection-unknown"]);
    expect(await footprint()).toEqual(before);
  });

  test("in another tenant's conversation", async () => {
    const { conversationId } = await converse("Hello", "Hi there.");
    const before = await footprint();
    const error = errorIn(await say(newFrame({ conversationId }), "rival"));
    expect(error).toMatchObject({ code: "conversation_not_found", field: "conversationId" });
    expect(await footprint()).toEqual(before);
    expect(await stage.takeJobs()).toEqual([]);
  });

  test("while the conversation's last turn runs", async () => {
    const [first] = await say(newFrame());
    if (first?.type !== "accepted") throw new Error("not accepted");
    const { conversationId, turnId } = first;
    await writeStream(stage.deps, turnId, "The first words", "goes on");
    await stage.takeJobs();
    const before = await footprint();
    const error = errorIn(await say(newFrame({ conversationId })));
    expect(error).toMatchObject({
      code: "conversation_busy",
      retryable: true,
      field: "conversationId",
    });
    expect(error.message).toContain(turnId);
    expect(await footprint()).toEqual(before);
  });

  test("over the tenant's rate, and says when to come again", async () => {
    const limited = { ...stage.deps, rate: { perMinute: 60, burst: 2 } };
    const connectionId = await stage.open("rival");
    const handle = chat(limited);
    await stage.deps.redis.del("rate:{rival}");
    for (let i = 0; i < 3; i++) await handle(socketEvent(connectionId, newFrame()), context);
    const before = await footprint();
    const [first, second, third] = stage.framesTo(connectionId);
    expect([first, second]).toMatchObject([{ type: "accepted" }, { type: "accepted" }]);
    expect(third).toMatchObject({ type: "error", code: "rate_limited", retryable: true });
    const { retryAfterMs = 0 } = third?.type === "error" ? third : {};
    expect(retryAfterMs).toBeGreaterThan(0);
    expect(retryAfterMs).toBeLessThanOrEqual(1_000);
    expect(await footprint()).toEqual(before);
    // Another tenant has a bucket of its own.
    expect(await say(newFrame())).toMatchObject([{ type: "accepted" }]);
  });

  test("for another prompt under the same requestId", async () => {
    const { frame } = await converse("Hello", "Hi there.");
    const before = await footprint();
    const error = errorIn(await say({ ...frame, prompt: "Something else" }));
    expect(error).toMatchObject({ code: "invalid_field", field: "requestId" });
    expect(await footprint()).toEqual(before);
  });

  test("with an action that nothing is called", async () => {
    const connectionId = await stage.open("acme");
    const handle = unrouted(stage.deps);
    await handle(socketEvent(connectionId, { action: "shout", requestId: "r1" }), context);
    await handle(socketEvent(connectionId, "no JSON"), context);
    const [unknown, invalid] = stage.framesTo(connectionId);
    expect(unknown).toMatchObject({ code: "unknown_action", field: "action", requestId: "r1" });
    expect(unknown?.type === "error" && unknown.message).toContain("chat, cancel, resume");
    expect(invalid).toMatchObject({ code: "invalid_frame" });
  });
});

describe("a request that comes again", () => {
  test("is the same turn, watched from its first token by whoever asks", async () => {
    const frame = newFrame();
    const turnId = turnIdFor("acme", frame.requestId);
    const first = await say(frame);
    const before = await stage.commits();
    const { connectionId, frames } = await sayOn(await stage.open("acme"), frame);
    expect(frames).toEqual(first);
    expect(await stage.commits()).toEqual(before);
    expect(await stage.takeJobs()).toHaveLength(1);
    expect(await stage.deps.redis.hget(turnWatchersKey(turnId), connectionId)).toBe("0:0");
  });

  test("sends the job again when nothing says that it was sent", async () => {
    const frame = newFrame({ prompt: "Again" });
    await say(frame);
    const [job] = await stage.takeJobs();
    await stage.deps.redis.del(turnSentKey(turnIdFor("acme", frame.requestId)));
    await say(frame);
    expect(await stage.takeJobs()).toEqual([job]);
  });

  test("does not send the job of a turn whose stream is sealed", async () => {
    const frame = newFrame();
    const turnId = turnIdFor("acme", frame.requestId);
    await say(frame);
    await stage.takeJobs();
    await writeStream(stage.deps, turnId, "It is done.");
    await stage.deps.redis.del(turnSentKey(turnId));
    expect(await say(frame)).toMatchObject([{ type: "accepted", turnId }]);
    expect(await stage.takeJobs()).toEqual([]);
  });

  test("is answered from the log when the stream has expired", async () => {
    const { frame, turnId } = await converse("Hello", "Hi there, you.");
    await stage.deps.redis.del(turnKey(turnId), turnTokensKey(turnId));
    expect(await say(frame)).toMatchObject([
      { type: "accepted", turnId },
      { type: "tokens", turnId, from: 1, to: 3, text: "Hi there, you." },
      { type: "done", turnId, lastSeq: 3, finishReason: "stop" },
    ]);
  });

  test("is answered from the log when the stream has another ending than the record", async () => {
    const { frame, turnId } = await converse("Hello", "Hi there, you.");
    await stage.deps.redis.del(turnKey(turnId), turnTokensKey(turnId));
    await writeStream(stage.deps, turnId, "Hi there, not you.");
    await stage.deps.redis.hset(turnKey(turnId), "epoch", 9);
    expect(await say(frame)).toMatchObject([
      { type: "accepted", turnId },
      { type: "tokens", turnId, from: 1, to: 3, text: "Hi there, you.", epoch: 0 },
      { type: "done", turnId, lastSeq: 3 },
    ]);
  });

  test("finishes what the first attempt left half done", async () => {
    const frame = newFrame();
    const turnId = turnIdFor("acme", frame.requestId);
    const conversationId = conversationIdFor(turnId);
    const at = Date.now();
    await stage.deps.log.append(conversationStream(conversationId), 0, [
      { type: "ConversationStarted", version: 1, at, conversationId, tenantId: "acme", title: "W" },
      { type: "TurnAdded", version: 1, at, conversationId, turnId, ordinal: 1 },
    ]);
    expect(await say(frame)).toMatchObject([{ type: "accepted", turnId, conversationId }]);
    expect(await stage.deps.log.read(conversationStream(conversationId))).toHaveLength(1);
    expect(await stage.takeJobs()).toMatchObject([{ turnId }]);
  });

  test("at the same time from many connections is one turn", async () => {
    const frame = newFrame();
    const turnId = turnIdFor("acme", frame.requestId);
    const replies = await Promise.all(Array.from({ length: 6 }, () => say(frame)));
    expect(new Set(replies.map((frames) => JSON.stringify(frames))).size).toBe(1);
    expect(eventTypes(await stage.deps.log.read(turnStream(turnId)))).toEqual(["TurnRequested"]);
    const jobs = await stage.takeJobs();
    expect(new Set(jobs.map((job) => JSON.stringify(job))).size).toBe(1);
  });
});

describe("two that ask in one conversation at the same time", () => {
  test("are told apart: one is accepted, the others find it busy", async () => {
    const { conversationId } = await converse("Hello", "Hi there.");
    const asked = Array.from({ length: 4 }, () => newFrame({ conversationId }));
    const replies = (await Promise.all(asked.map((frame) => say(frame)))).flat();
    const accepted = replies.filter((frame) => frame.type === "accepted");
    const busy = replies.filter((frame) => frame.type === "error");
    expect(accepted).toHaveLength(1);
    expect(busy.map(({ code }) => code)).toEqual(Array(3).fill("conversation_busy"));
    const commits = await stage.deps.log.read(conversationStream(conversationId));
    expect(eventTypes(commits)).toEqual(["ConversationStarted", "TurnAdded", "TurnAdded"]);
    expect(await stage.takeJobs()).toHaveLength(1);
  });

  test("a turn that was added and never requested holds nobody up for long", async () => {
    const { conversationId } = await converse("Hello", "Hi there.");
    const lost = { turnId: "turn_lost", ordinal: 2, conversationId };
    const at = Date.now();
    await stage.deps.log.append(conversationStream(conversationId), 1, [
      { type: "TurnAdded", version: 1, at, ...lost },
    ]);
    expect(errorIn(await say(newFrame({ conversationId }))).code).toBe("conversation_busy");
    const later = { ...stage.deps, now: () => at + 31_000 };
    const connectionId = await stage.open("acme");
    await chat(later)(socketEvent(connectionId, newFrame({ conversationId })), context);
    expect(stage.framesTo(connectionId)).toMatchObject([{ type: "accepted" }]);
  });
});

describe("the context of a prompt", () => {
  const contents = async () =>
    (await stage.takeJobs()).map((job) => job.messages.map(({ content }) => content));

  test("has an answer that only the sealed stream knows yet", async () => {
    const [first] = await say(newFrame({ prompt: "One?" }));
    if (first?.type !== "accepted") throw new Error("not accepted");
    await stage.takeJobs();
    await writeStream(stage.deps, first.turnId, "One it is.");
    const { conversationId } = first;
    expect(await say(newFrame({ prompt: "Two?", conversationId }))).toMatchObject([
      { type: "accepted" },
    ]);
    expect(await contents()).toEqual([["You are a guide.", "One?", "One it is.", "Two?"]]);
  });

  test.each([
    ["PostgreSQL", async () => projectAll()],
    ["the log", async () => {}],
  ])("is found in %s where the cache is cold, in the order of the turns", async (_, prepare) => {
    const { conversationId } = await converse("One?", "One.");
    await converse("Two?", "Two.", { conversationId });
    await converse("Three?", "Three.", { conversationId });
    await prepare();
    await stage.deps.redis.del(contextKey(conversationId));
    await say(newFrame({ prompt: "Four?", conversationId }));
    const system = "You are a guide.";
    expect(await contents()).toEqual([
      [system, "One?", "One.", "Two?", "Two.", "Three?", "Three.", "Four?"],
    ]);
  });

  test("comes from the cache alone where it is warm", async () => {
    const { conversationId } = await converse("One?", "One.");
    await converse("Two?", "Two.", { conversationId });
    await projectAll();
    const asked: unknown[] = [];
    const database = Object.assign(Object.create(stage.deps.database), {
      query: (...query: unknown[]) => {
        asked.push(query);
        return Promise.reject(new Error("not expected"));
      },
    });
    const connectionId = await stage.open("acme");
    const frame = newFrame({ prompt: "Three?", conversationId });
    await chat({ ...stage.deps, database })(socketEvent(connectionId, frame), context);
    expect(stage.framesTo(connectionId)).toMatchObject([{ type: "accepted" }]);
    expect(asked).toEqual([]);
    expect((await contents())[0]).toEqual([
      ...["You are a guide.", "One?", "One.", "Two?", "Two.", "Three?"],
    ]);
  });

  test("has what a cancelled turn said, and nothing of one that failed", async () => {
    const ends = [
      ["cancelled", "Half an ans"],
      ["failed", "Rubbish"],
    ] as const;
    let conversationId: string | undefined;
    for (const [type, text] of ends) {
      const [reply] = await say(newFrame({ prompt: `To be ${type}`, conversationId }));
      if (reply?.type !== "accepted") throw new Error("not accepted");
      conversationId = reply.conversationId;
      await report(stage.deps)(reportsEvent(endReport(reply.turnId, text, type)), context);
    }
    await stage.takeJobs();
    await say(newFrame({ prompt: "And now?", conversationId }));
    expect(await contents()).toEqual([
      ["You are a guide.", "To be cancelled", "Half an ans", "And now?"],
    ]);
  });

  test("loses its oldest turns before the job is too large for its queue", async () => {
    const { conversationId } = await converse("One?", `First ${"x".repeat(90_000)}`);
    await converse("Two?", `Second ${"y".repeat(90_000)}`, { conversationId });
    await converse("Three?", `Third ${"z".repeat(60_000)}`, { conversationId });
    await say(newFrame({ prompt: "Four?", conversationId }));
    const [job] = await stage.takeJobs();
    expect(Buffer.byteLength(JSON.stringify(job))).toBeLessThan(200_000);
    expect(job?.messages.map(({ content }) => content.slice(0, 6))).toEqual([
      ...["You ar", "Two?", "Second", "Three?", "Third ", "Four?"],
    ]);
  });
});

describe("a store that is away", () => {
  test("is an unavailable that may be tried again, and nothing is recorded", async () => {
    const connectionId = await stage.open("acme");
    const away = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
    const fail = () => Promise.reject(away);
    const log = { read: fail, append: fail, readShard: fail, readShardBack: fail };
    const before = await footprint();
    const frame = newFrame({ requestId: "away" });
    await chat({ ...stage.deps, log })(socketEvent(connectionId, frame), context);
    expect(stage.framesTo(connectionId)).toMatchObject([
      { type: "error", code: "unavailable", retryable: true, requestId: "away" },
    ]);
    expect(await footprint()).toEqual(before);
    // And once it is back, the same request is taken.
    expect(await say(frame)).toMatchObject([{ type: "accepted" }]);
  });

  test("is an unavailable when it is Redis, too", async () => {
    const redis = lazyRedis("redis://127.0.0.1:9", logger);
    const connectionId = await stage.open("acme");
    const before = await footprint();
    await chat({ ...stage.deps, redis })(socketEvent(connectionId, newFrame()), context);
    expect(stage.framesTo(connectionId)).toMatchObject([
      { type: "error", code: "unavailable", retryable: true },
    ]);
    expect(await footprint()).toEqual(before);
    redis.disconnect();
  });

  test("does not hold the chat up when it is PostgreSQL: the log has it all", async () => {
    const { conversationId } = await converse("One?", "One.");
    await converse("Two?", "Two.", { conversationId });
    await stage.deps.redis.del(contextKey(conversationId));
    const away = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
    const database = Object.assign(Object.create(stage.deps.database), {
      query: () => Promise.reject(away),
    });
    const connectionId = await stage.open("acme");
    const frame = newFrame({ conversationId });
    await chat({ ...stage.deps, database })(socketEvent(connectionId, frame), context);
    expect(stage.framesTo(connectionId)).toMatchObject([{ type: "accepted" }]);
    expect((await stage.takeJobs())[0]?.messages).toHaveLength(6);
  });

  test("never takes a prompt into a log line", async () => {
    const lines: unknown[] = [];
    const line = (...parts: unknown[]) => void lines.push(parts);
    const spy = Object.assign(Object.create(stage.deps.logger), {
      ...{ info: line, warn: line, error: line },
    });
    const deps = { ...stage.deps, logger: spy };
    const connectionId = await stage.open("acme");
    const secret = "my-secret-words";
    for (const frame of [
      newFrame({ prompt: secret }),
      newFrame({ prompt: secret, model: "nobody" }),
      newFrame({ prompt: secret.repeat(2_000) }),
      `{"action":"chat","prompt":"${secret}`,
    ]) {
      await chat(deps)(socketEvent(connectionId, frame), context);
    }
    expect(lines.length).toBeGreaterThanOrEqual(4);
    const text = JSON.stringify(lines);
    expect(text).toContain(connectionId);
    expect(text).toContain("acme");
    expect(text).not.toContain(secret);
  });
});

test("cancel is part of the same turn's log", async () => {
  const frame = newFrame();
  const turnId = turnIdFor("acme", frame.requestId);
  const { connectionId } = await sayOn(await stage.open("acme"), frame);
  await cancel(stage.deps)(socketEvent(connectionId, { action: "cancel", turnId }), context);
  expect(eventTypes(await stage.deps.log.read(turnStream(turnId)))).toEqual([
    "TurnRequested",
    "TurnCancelRequested",
  ]);
});
