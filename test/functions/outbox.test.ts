import { randomUUID } from "node:crypto";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { conversationStream, turnStream } from "../../events/event-log.ts";
import { turnIdFor } from "../../events/ids.ts";
import type { Job } from "../../events/jobs.ts";
import { turnKey, turnSentKey } from "../../events/redis-keys.ts";
import { chat } from "../../functions/chat.ts";
import { dispatch } from "../../functions/dispatch.ts";
import { modelCatalog } from "../../functions/lib/models.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import { type SweepTick, sweep } from "../../functions/sweep.ts";
import { freshRedis } from "../support/parts.ts";
import {
  context,
  endReport,
  reportsEvent,
  type Stage,
  socketEvent,
  startStage,
  tableEvent,
  writeStream,
} from "./stage.ts";

let redisUrl: string;
let stage: Stage;
beforeAll(async () => {
  redisUrl = await freshRedis();
});
beforeEach(async () => {
  stage = await startStage({ redisUrl });
});
afterEach(() => stage.close());

/** A turn that chat has taken, with the job that it sent. */
async function ask(prompt: string, conversationId?: string): Promise<{ turnId: string; job: Job }> {
  const requestId = randomUUID();
  const frame = { action: "chat", requestId, prompt, conversationId };
  await chat(stage.deps)(socketEvent(await stage.open("acme"), frame), context);
  const [job] = await stage.takeJobs();
  if (job === undefined) throw new Error("no job was sent");
  return { turnId: turnIdFor("acme", requestId), job };
}

const unmark = (turnId: string) => stage.deps.redis.del(turnSentKey(turnId));
const end = (turnId: string) =>
  report(stage.deps)(reportsEvent(endReport(turnId, "It is done.")), context);

/** As if the records had been written a while ago: nobody else is about to send these jobs. */
async function doDispatch(deps = stage.deps) {
  const later = { ...deps, now: () => Date.now() + 60_000 };
  return dispatch(later)(tableEvent(await stage.commits()), context);
}
const none = { batchItemFailures: [] };

describe("dispatch", () => {
  test("sends what chat did not get to send: the very same job", async () => {
    const { turnId, job } = await ask("One?");
    await unmark(turnId);
    expect(await doDispatch()).toEqual(none);
    expect(await stage.takeJobs()).toEqual([job]);
    expect(await stage.deps.redis.ttl(turnSentKey(turnId))).toBeGreaterThan(290);
    expect(await doDispatch()).toEqual(none);
    expect(await stage.takeJobs()).toEqual([]);
  });

  test("sends the context that the turn was asked in, and nothing that came later", async () => {
    const first = await ask("One?");
    await end(first.turnId);
    const second = await ask("Two?", first.job.conversationId);
    await end(second.turnId);
    const third = await ask("Three?", first.job.conversationId);
    await unmark(third.turnId);
    await doDispatch();
    expect(await stage.takeJobs()).toEqual([third.job]);
    expect(third.job.messages).toHaveLength(6);
  });

  test("does not send a job without the answer before it, where Redis has lost that", async () => {
    const first = await ask("One?");
    await writeStream(stage.deps, first.turnId, "It is done.");
    const second = await ask("Two?", first.job.conversationId);
    expect(second.job.messages).toHaveLength(4);
    await stage.deps.redis.flushall();
    expect(await doDispatch()).toEqual(none);
    expect(await stage.takeJobs()).toMatchObject([{ turnId: first.turnId }]);
    await end(first.turnId);
    await unmark(second.turnId);
    expect(await doDispatch()).toEqual(none);
    expect(await stage.takeJobs()).toEqual([second.job]);
  });

  test("leaves out a turn that overtook the one it sends", async () => {
    const { turnId, job } = await ask("One?");
    const { conversationId } = job;
    const later = { at: Date.now(), conversationId, turnId: "turn_later" };
    await stage.deps.log.append(conversationStream(conversationId), 1, [
      { type: "TurnAdded", version: 1, ...later, ordinal: 2 },
    ]);
    const [requested] = await stage.deps.log.read(turnStream(turnId));
    const events = requested?.events.map((event) => ({ ...event, turnId: "turn_later" })) ?? [];
    await stage.deps.log.append(turnStream("turn_later"), 0, events);
    await end("turn_later");
    await unmark(turnId);
    expect(await doDispatch()).toEqual(none);
    expect(await stage.takeJobs()).toEqual([job]);
  });

  test("sends nothing for a turn that has ended, or that a leader runs", async () => {
    const ended = await ask("One?");
    await end(ended.turnId);
    const held = await ask("Two?");
    await stage.deps.redis.hset(turnKey(held.turnId), "leaseUntilMs", Date.now() + 60_000);
    for (const { turnId } of [ended, held]) await unmark(turnId);
    expect(await doDispatch()).toEqual(none);
    expect(await stage.takeJobs()).toEqual([]);
  });

  test("lets chat go first", async () => {
    const { turnId } = await ask("One?");
    await unmark(turnId);
    const events = tableEvent(await stage.commits());
    const dispatched = dispatch(stage.deps)(events, context);
    await stage.deps.redis.set(turnSentKey(turnId), "1");
    expect(await dispatched).toEqual(none);
    expect(await stage.takeJobs()).toEqual([]);
  });

  test("gives the record back when the job cannot be sent", async () => {
    const { turnId } = await ask("One?");
    await unmark(turnId);
    const { sqs } = stage.deps;
    const send = sqs.send.bind(sqs);
    Object.assign(sqs, { send: () => Promise.reject(new Error("no queue")) });
    const result = await doDispatch().finally(() => Object.assign(sqs, { send }));
    const requested = (await stage.commits()).findIndex(({ stream }) => stream.startsWith("turn/"));
    expect(result).toEqual({ batchItemFailures: [{ itemIdentifier: String(requested + 1) }] });
    expect(await doDispatch()).toEqual(none);
    expect(await stage.takeJobs()).toMatchObject([{ turnId }]);
  });
});

describe("sweep", () => {
  const doSweep = async (tick: SweepTick = {}, deps = stage.deps) => {
    await project(stage.deps)(tableEvent(await stage.commits()), context);
    return sweep(deps)(tick, context);
  };
  const nothing = {
    open: 0,
    sent: 0,
    marked: 0,
    waiting: 0,
    early: 0,
    held: 0,
    ended: 0,
    stranded: 0,
    failed: 0,
  };

  test("sends the open turns that nobody has, and counts the others", async () => {
    const [marked, held, expired, lost, ended] = [
      await ask("Marked?"),
      await ask("Held?"),
      await ask("Its leader died?"),
      await ask("Lost?"),
      await ask("Ended?"),
    ];
    for (const { turnId } of [held, expired, lost, ended]) await unmark(turnId);
    const { redis } = stage.deps;
    await redis.hset(turnKey(held.turnId), "leaseUntilMs", Date.now() + 60_000);
    await redis.hset(turnKey(expired.turnId), "leaseUntilMs", Date.now() - 60_000);
    await end(ended.turnId);

    expect(await doSweep()).toEqual({ ...nothing, open: 4, marked: 1, held: 1, sent: 2 });
    const sent = (await stage.takeJobs()).map(({ turnId }) => turnId).sort();
    expect(sent).toEqual([expired.turnId, lost.turnId].sort());
    expect(await doSweep()).toEqual({ ...nothing, open: 4, marked: 3, held: 1 });
    expect(await stage.takeJobs()).toEqual([]);
    expect(marked.turnId).not.toBe(lost.turnId);
  });

  test("ignores the marks when the queue is known to have lost its jobs", async () => {
    const waiting = await ask("One?");
    const held = await ask("Two?");
    await stage.deps.redis.hset(turnKey(held.turnId), "leaseUntilMs", Date.now() + 60_000);
    expect(await doSweep({ ignoreMarkers: true })).toEqual({
      ...nothing,
      ...{ open: 2, held: 1, sent: 1 },
    });
    expect(await stage.takeJobs()).toEqual([waiting.job]);
    // The leader that had the other turn was dead: its mark is gone too, and the next sweep sends it.
    await stage.deps.redis.hset(turnKey(held.turnId), "leaseUntilMs", 0);
    expect(await doSweep()).toEqual({ ...nothing, open: 2, marked: 1, sent: 1 });
    expect(await stage.takeJobs()).toEqual([held.job]);
  });

  test("believes the log where the projection has not heard of the end", async () => {
    const { turnId } = await ask("One?");
    await project(stage.deps)(tableEvent(await stage.commits()), context);
    await end(turnId);
    await unmark(turnId);
    expect(await sweep(stage.deps)({}, context)).toEqual({ ...nothing, open: 1, ended: 1 });
    expect(await stage.takeJobs()).toEqual([]);
  });

  test("goes past a turn whose revision nobody serves any more", async () => {
    const [{ turnId: first }, { turnId: second }] = [await ask("One?"), await ask("Two?")];
    for (const turnId of [first, second]) await unmark(turnId);
    const [model] = stage.deps.models.all();
    if (model === undefined) throw new Error("no model");
    const models = modelCatalog([{ ...model, revision: "guide-2" }]);
    expect(await doSweep({}, { ...stage.deps, models })).toEqual({
      ...nothing,
      open: 2,
      failed: 2,
    });
    expect(await doSweep()).toEqual({ ...nothing, open: 2, sent: 2 });
  });

  test("looks at every open turn, however many there are", async () => {
    const { database } = stage.deps;
    await database.query(
      `INSERT INTO turns (id, tenant_id, conversation_id, model, revision, status, sampling,
         correlation_id, requested_at, log_version)
       SELECT 'turn_' || n, 'acme', 'conv_x', 'guide', 'guide-1', 'requested', '{}', 'x', now(), 1
       FROM generate_series(1, 450) n`,
    );
    expect(await sweep(stage.deps)({}, context)).toEqual({ ...nothing, open: 450, ended: 450 });
  });
});
