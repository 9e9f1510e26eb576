import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { tokenStream } from "../../dataplane/token-stream.ts";
import type { Job } from "../../events/jobs.ts";
import { redisSubscriber } from "../../events/redis-client.ts";
import { streamEndSchema, turnChannel, turnMessageSchema } from "../../events/redis-keys.ts";
import { execute } from "../../functions/lib/execute.ts";
import { load, turns } from "../../functions/lib/streams.ts";
import { isAbandoned } from "../../functions/lib/turns/stranded.ts";
import { sweep } from "../../functions/sweep.ts";
import { RolloutStage } from "./rollout-stage.ts";
import { context, guide, type Stage } from "./stage.ts";

/** Turns that are open when the last group of their revision is gone. */

let stage: Stage;
let fresh: () => RolloutStage;
let one: RolloutStage;
let revision: string;
beforeAll(async () => {
  ({ stage, fresh } = await RolloutStage.start());
});
afterAll(() => stage.close());
beforeEach(async () => {
  // What a sweep sees are the turns of one test.
  await stage.deps.database.query("DELETE FROM turns");
  one = fresh();
  revision = one.revision(1);
  await one.adopt({ timeouts: { settleMs: 0, drainMs: 60_000 } });
});

const doSweep = () => sweep(one.deps)({}, context);
const turnNow = async (turnId: string) => (await load(one.deps.log, turns, turnId)).state;

/** The revision is withdrawn, and its time to end its turns passes, until it has no groups. */
async function retireOverdue(): Promise<void> {
  await one.ask("retire", { revision });
  await one.tick(61_000);
  for (let i = 0; i < 5; i++) await one.tick();
  expect(await one.types()).toContain("DrainOverdue");
  expect((await one.state()).groups).toEqual([]);
}

const jobOf = (turnId: string): Job => ({
  ...{ version: 1, turnId, tenantId: "acme", conversationId: `conv_${turnId}`, revision },
  ...{ messages: [{ role: "user", content: "Is it?" }], requestedAt: one.time },
  ...{ sampling: { ...guide.sampling, seed: 1 }, correlationId: "test", priority: "interactive" },
});

/** A leader takes the turn, says two tokens, and dies. */
async function halfAnswered(turnId: string, leaseMs = 0) {
  const stream = tokenStream(one.deps.redis);
  const claim = await stream.claim(jobOf(turnId), { leaderId: "l", groupId: "g", leaseMs: 60_000 });
  if (claim.status !== "claimed") throw new Error(`It is ${claim.status}.`);
  const { epoch } = claim;
  const tokens = [
    { text: "It", token: 1 },
    { text: " is", token: 2 },
  ];
  await stream.appendAll([{ turnId, epoch, from: 1, tokens }]);
  await stream.renewAll([{ job: jobOf(turnId), epoch }], leaseMs);
  return { epoch, stream };
}

test("a turn that was never answered fails, and its watchers are told", async () => {
  const turnId = await one.turn(revision);
  await retireOverdue();
  const messages: string[] = [];
  const subscriber = redisSubscriber(one.deps.redis);
  subscriber.on("message", (_channel: string, text: string) => messages.push(text));
  await subscriber.subscribe(turnChannel(turnId));
  expect(await doSweep()).toMatchObject({ open: 1, stranded: 1, sent: 0, failed: 0 });
  expect(await turnNow(turnId)).toMatchObject({ status: "failed", text: "" });
  const claim = await tokenStream(one.deps.redis).claim(jobOf(turnId), {
    ...{ leaderId: "late", groupId: "late", leaseMs: 1_000 },
  });
  expect(claim).toMatchObject({
    status: "sealed",
    end: { finishReason: "failed", lastSeq: 0, error: { code: "unavailable" } },
  });
  await expect.poll(() => messages.length).toBe(1);
  const message = turnMessageSchema.parse(JSON.parse(messages[0] ?? ""));
  expect(message).toMatchObject({ kind: "end", turnId, end: { finishReason: "failed" } });
  subscriber.disconnect();
});

test("one that was half answered keeps what it has said; its leader, should it come back, writes no more", async () => {
  const turnId = await one.turn(revision, { end: "started" });
  const { epoch, stream } = await halfAnswered(turnId);
  await retireOverdue();
  expect(await doSweep()).toMatchObject({ open: 1, stranded: 1 });
  expect(await turnNow(turnId)).toMatchObject({ status: "failed", text: "It is" });
  const late = [{ text: " so", token: 3 }];
  expect(await stream.appendAll([{ turnId, epoch, from: 3, tokens: late }])).toEqual(["stale"]);
  const claim = await stream.claim(jobOf(turnId), { leaderId: "l", groupId: "g", leaseMs: 1_000 });
  expect(claim).toMatchObject({ status: "sealed", end: { lastSeq: 2, epoch } });
  expect(await stream.orphans(revision, 10)).toEqual([]);
  await one.tellAll(`turn/${turnId}`);
  expect(await doSweep()).toMatchObject({ open: 0 });
});

test("one that a leader still runs is left to it", async () => {
  const turnId = await one.turn(revision, { end: "started" });
  await halfAnswered(turnId, 60_000);
  await retireOverdue();
  expect(await doSweep()).toMatchObject({ open: 1, stranded: 0, held: 1 });
  expect(await turnNow(turnId)).toMatchObject({ status: "running" });
});

test("one whose report was lost is recorded as its leader has sealed it", async () => {
  const turnId = await one.turn(revision, { end: "started" });
  const { epoch, stream } = await halfAnswered(turnId, 60_000);
  const end = streamEndSchema.parse({
    ...{ lastSeq: 2, epoch, finishReason: "stop" },
    usage: { promptTokens: 4, completionTokens: 2 },
    timings: { queuedMs: 1, firstTokenMs: 1, totalMs: 2 },
  });
  expect(await stream.seal(jobOf(turnId), epoch, end)).toBe("ok");
  await retireOverdue();
  expect(await doSweep()).toMatchObject({ open: 1, stranded: 1 });
  expect(await turnNow(turnId)).toMatchObject({ status: "completed", text: "It is" });
});

test("one that was to be cancelled ends as cancelled", async () => {
  const turnId = await one.turn(revision, { end: "started" });
  await halfAnswered(turnId);
  const wish = { type: "RequestCancel", turnId, tenantId: "acme", reason: "user" } as const;
  await execute(one.deps.log, turns, turnId, () => ({ ...wish, at: one.time }));
  await retireOverdue();
  expect(await doSweep()).toMatchObject({ open: 1, stranded: 1 });
  expect(await turnNow(turnId)).toMatchObject({ status: "cancelled", text: "It is" });
});

test("what breaks off between the stream and the log is made up for by the next sweep", async () => {
  const turnId = await one.turn(revision);
  await retireOverdue();
  const log = { ...one.deps.log, append: () => Promise.reject(new Error("The log is away.")) };
  expect(await sweep({ ...one.deps, log })({}, context)).toMatchObject({ open: 1, failed: 1 });
  expect(await turnNow(turnId)).toMatchObject({ status: "requested" });
  expect(await doSweep()).toMatchObject({ open: 1, stranded: 1 });
  expect(await turnNow(turnId)).toMatchObject({ status: "failed", text: "" });
});

test("a revision is abandoned only when the log wants no more of it", async () => {
  const state = await one.state();
  expect(isAbandoned(state, revision)).toBe(false);
  expect(isAbandoned({ ...state, groups: [] }, revision)).toBe(false);
  expect(isAbandoned({ ...state, groups: [] }, "another")).toBe(false);
  await retireOverdue();
  const retired = await one.state();
  expect(isAbandoned(retired, revision)).toBe(true);
  await one.ask("start", { revision, rolloutId: "again" });
  expect(isAbandoned(await one.state(), revision)).toBe(false);
});
