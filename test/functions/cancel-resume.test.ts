import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { turnStream } from "../../events/event-log.ts";
import { turnIdFor } from "../../events/ids.ts";
import { redisSubscriber } from "../../events/redis-client.ts";
import {
  cancelChannel,
  connectionKey,
  relayShardOf,
  shardTurnsKey,
  turnKey,
  turnTokensKey,
  turnWatchersKey,
} from "../../events/redis-keys.ts";
import { cancel } from "../../functions/cancel.ts";
import { chat } from "../../functions/chat.ts";
import { report } from "../../functions/report.ts";
import { resume } from "../../functions/resume.ts";
import {
  context,
  endReport,
  eventTypes,
  reportsEvent,
  type Stage,
  socketEvent,
  startedReport,
  startStage,
  writeStream,
} from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await startStage();
});
afterAll(() => stage.close());

/** A turn of acme that was accepted. */
async function newTurn(): Promise<string> {
  const requestId = randomUUID();
  const frame = { action: "chat", requestId, prompt: "Hello" };
  await chat(stage.deps)(socketEvent(await stage.open("acme"), frame), context);
  return turnIdFor("acme", requestId);
}

const finish = (
  turnId: string,
  ...end: Parameters<typeof endReport> extends [string, ...infer R] ? R : never
) => report(stage.deps)(reportsEvent(startedReport(turnId), endReport(turnId, ...end)), context);

const expire = (turnId: string) => stage.deps.redis.del(turnKey(turnId), turnTokensKey(turnId));

async function ask(handler: typeof cancel, frame: Record<string, unknown>, tenantId = "acme") {
  const connectionId = await stage.open(tenantId);
  const result = await handler(stage.deps)(socketEvent(connectionId, frame), context);
  expect(result).toEqual({ statusCode: 200 });
  return { connectionId, frames: stage.framesTo(connectionId) };
}

const doCancel = (turnId: string, tenantId?: string) =>
  ask(cancel, { action: "cancel", turnId }, tenantId);
const doResume = (turnId: string, after: number, { epoch = 0, tenantId = "acme" } = {}) =>
  ask(resume, { action: "resume", turnId, after, epoch }, tenantId);

describe("cancel", () => {
  test("is a fact of the log, a mark for the leader, and a message to it", async () => {
    const turnId = await newTurn();
    const { redis, log } = stage.deps;
    const subscriber = redisSubscriber(redis);
    const heard: string[] = [];
    subscriber.on("message", (_, text: string) => heard.push(text));
    await subscriber.subscribe(cancelChannel);

    expect((await doCancel(turnId)).frames).toEqual([]);
    expect((await log.read(turnStream(turnId))).at(-1)?.events).toMatchObject([
      { type: "TurnCancelRequested", turnId, reason: "user" },
    ]);
    expect(await redis.hget(turnKey(turnId), "cancel")).toBe("user");
    expect(await redis.ttl(turnKey(turnId))).toBeGreaterThan(3_600);
    await expect.poll(() => heard).toContain(turnId);
    subscriber.disconnect();
  });

  test("asked again passes the wish on again, and is noted once", async () => {
    const turnId = await newTurn();
    await doCancel(turnId);
    await stage.deps.redis.del(turnKey(turnId));
    await doCancel(turnId);
    expect(await stage.deps.redis.hget(turnKey(turnId), "cancel")).toBe("user");
    const commits = await stage.deps.log.read(turnStream(turnId));
    expect(eventTypes(commits)).toEqual(["TurnRequested", "TurnCancelRequested"]);
  });

  test("leaves the shorter life of a sealed stream as it is", async () => {
    const turnId = await newTurn();
    await writeStream(stage.deps, turnId, "Done.");
    await stage.deps.redis.expire(turnKey(turnId), 60);
    await doCancel(turnId);
    expect(await stage.deps.redis.ttl(turnKey(turnId))).toBeLessThanOrEqual(60);
  });

  test("changes nothing of a turn that has ended", async () => {
    const turnId = await newTurn();
    await finish(turnId, "Done.");
    const before = await stage.deps.log.read(turnStream(turnId));
    expect((await doCancel(turnId)).frames).toEqual([]);
    expect(await stage.deps.log.read(turnStream(turnId))).toEqual(before);
    expect(await stage.deps.redis.exists(turnKey(turnId))).toBe(0);
  });

  test("finds no turn of another tenant, nor one that is not there", async () => {
    const turnId = await newTurn();
    const expected = { type: "error", code: "turn_not_found", field: "turnId" };
    expect((await doCancel(turnId, "rival")).frames).toMatchObject([{ ...expected, turnId }]);
    expect((await doCancel("turn_none")).frames).toMatchObject([
      { ...expected, turnId: "turn_none" },
    ]);
    expect(eventTypes(await stage.deps.log.read(turnStream(turnId)))).toEqual(["TurnRequested"]);
    expect(await stage.deps.redis.hget(turnKey(turnId), "cancel")).toBeNull();
  });
});

describe("resume", () => {
  test("watches a living stream from where the client stopped", async () => {
    const turnId = await newTurn();
    await writeStream(stage.deps, turnId, "One two three four", "goes on");
    const { connectionId, frames } = await doResume(turnId, 2);
    expect(frames).toEqual([]);
    const { redis } = stage.deps;
    expect(await redis.hget(turnWatchersKey(turnId), connectionId)).toBe("2:0");
    expect(await redis.sismember(shardTurnsKey(relayShardOf(turnId)), turnId)).toBe(1);
  });

  test("watches a turn that has not said anything yet", async () => {
    const turnId = await newTurn();
    const { connectionId, frames } = await doResume(turnId, 0);
    expect(frames).toEqual([]);
    expect(await stage.deps.redis.hget(turnWatchersKey(turnId), connectionId)).toBe("0:0");
  });

  test("cuts the client back to what a failover has left of the stream", async () => {
    const turnId = await newTurn();
    await writeStream(stage.deps, turnId, "One two", "goes on");
    const { connectionId, frames } = await doResume(turnId, 9);
    expect(frames).toEqual([{ type: "rewind", turnId, to: 2 }]);
    expect(await stage.deps.redis.hget(turnWatchersKey(turnId), connectionId)).toBe("2:0");
    await expire(turnId);
    expect((await doResume(turnId, 2)).frames).toEqual([{ type: "rewind", turnId, to: 0 }]);
  });

  test("leaves it to the relay to find out what a client has of the stream, when it names an epoch", async () => {
    const turnId = await newTurn();
    await writeStream(stage.deps, turnId, "One two", "goes on");
    const { connectionId, frames } = await doResume(turnId, 9, { epoch: 7 });
    expect(frames).toEqual([]);
    expect(await stage.deps.redis.hget(turnWatchersKey(turnId), connectionId)).toBe("9:7");
  });

  test("tells an answer from the log when the stream has another ending than the record", async () => {
    const turnId = await newTurn();
    await finish(turnId, "One two three");
    await writeStream(stage.deps, turnId, "One two four five");
    await stage.deps.redis.hset(turnKey(turnId), "epoch", 9);
    expect((await doResume(turnId, 0)).frames).toMatchObject([
      { type: "tokens", from: 1, to: 3, text: "One two three", epoch: 0 },
      { type: "done", lastSeq: 3, epoch: 0 },
    ]);
  });

  test("answers a relay's own door in its result", async () => {
    const turnId = await newTurn();
    await finish(turnId, "One two three");
    await expire(turnId);
    const connectionId = `relay_${"0".repeat(16)}.abc`;
    const frame = { action: "resume", turnId, after: 0 };
    const unknown = await resume(stage.deps)(socketEvent(connectionId, frame), context);
    expect(unknown).toEqual({ statusCode: 410 });
    await stage.deps.redis.hset(connectionKey(connectionId), { tenantId: "acme", userId: "u" });
    const known = await resume(stage.deps)(socketEvent(connectionId, frame), context);
    expect(known).toMatchObject({ statusCode: 200 });
    const frames = JSON.parse((known as { body: string }).body);
    expect(frames).toMatchObject([{ type: "tokens", text: "One two three" }, { type: "done" }]);
    expect(stage.framesTo(connectionId)).toEqual([]);
  });

  test("tells an answer from the log when its stream has expired", async () => {
    const turnId = await newTurn();
    await finish(turnId, "One two three");
    await expire(turnId);
    const told = [
      { type: "tokens", turnId, from: 1, to: 3, text: "One two three" },
      { type: "done", turnId, lastSeq: 3, finishReason: "stop" },
    ];
    expect((await doResume(turnId, 0)).frames).toMatchObject(told);
    expect((await doResume(turnId, 2)).frames).toMatchObject([
      { type: "rewind", turnId, to: 0 },
      ...told,
    ]);
  });

  test("tells how a turn was cancelled or failed", async () => {
    const cancelled = await newTurn();
    await finish(cancelled, "Half", "cancelled");
    await expire(cancelled);
    expect((await doResume(cancelled, 0)).frames).toMatchObject([
      { type: "tokens", text: "Half" },
      { type: "done", finishReason: "cancelled", lastSeq: 1 },
    ]);
    const failed = await newTurn();
    await finish(failed, "", "failed");
    await expire(failed);
    const { frames } = await doResume(failed, 0);
    expect(frames).toMatchObject([
      {
        type: "done",
        finishReason: "failed",
        lastSeq: 0,
        error: { code: "internal", message: "It broke." },
      },
    ]);
  });

  test("joins frames of a long answer without a gap, each small enough for the gateway", async () => {
    const turnId = await newTurn();
    const answer = Array.from({ length: 3_000 }, (_, i) => ` word-${i}-\u0001😀"`.repeat(2)).join(
      "",
    );
    await finish(turnId, answer);
    await expire(turnId);
    const { frames } = await doResume(turnId, 0);
    const tokens = frames.filter((frame) => frame.type === "tokens");
    expect(tokens.length).toBeGreaterThan(1);
    let last = 0;
    for (const frame of tokens) {
      expect(frame.from).toBe(last + 1);
      expect(Buffer.byteLength(JSON.stringify(frame))).toBeLessThan(128 * 1024);
      last = frame.to;
    }
    expect(tokens.map((frame) => frame.text).join("")).toBe(answer);
    expect(frames.at(-1)).toMatchObject({ type: "done", lastSeq: last });
  });

  test("finds no turn of another tenant, nor one that is not there", async () => {
    const turnId = await newTurn();
    const { frames, connectionId } = await doResume(turnId, 0, { tenantId: "rival" });
    const expected = { type: "error", code: "turn_not_found", field: "turnId" };
    expect(frames).toMatchObject([{ ...expected, turnId }]);
    expect(await stage.deps.redis.hexists(turnWatchersKey(turnId), connectionId)).toBe(0);
    expect((await doResume("turn_none", 0)).frames).toMatchObject([expected]);
  });

  test.each([
    ["after", { action: "resume", turnId: "t1" }],
    ["after", { action: "resume", turnId: "t1", after: -1 }],
    ["turnId", { action: "resume", turnId: "", after: 0 }],
    ["more", { action: "resume", turnId: "t1", after: 0, more: 1 }],
  ])("refuses a frame whose %s is wrong", async (field, frame) => {
    const { frames } = await ask(resume, frame);
    expect(frames).toMatchObject([{ type: "error", code: "invalid_field", field }]);
  });
});

test("a connection without the scope chat is refused, whatever it asks of a turn", async () => {
  const turnId = await newTurn();
  const connectionId = await stage.open("acme", ["history", "ops:read"]);
  await cancel(stage.deps)(socketEvent(connectionId, { action: "cancel", turnId }), context);
  await resume(stage.deps)(
    socketEvent(connectionId, { action: "resume", turnId, after: 0 }),
    context,
  );
  const frame = { action: "chat", requestId: randomUUID(), prompt: "Hello" };
  await chat(stage.deps)(socketEvent(connectionId, frame), context);
  const refusal = { type: "error", code: "forbidden", retryable: false };
  expect(stage.framesTo(connectionId)).toMatchObject([refusal, refusal, refusal]);
  expect(await stage.deps.redis.hget(turnKey(turnId), "cancel")).toBeNull();
});
