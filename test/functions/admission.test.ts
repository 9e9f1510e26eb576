import { randomUUID } from "node:crypto";
import type { SendMessageCommandInput } from "@aws-sdk/client-sqs";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { tokenStream } from "../../dataplane/token-stream.ts";
import { turnStream } from "../../events/event-log.ts";
import type { AcceptedFrame, ServerFrame } from "../../events/frames.ts";
import { turnIdFor } from "../../events/ids.ts";
import { jobSchema } from "../../events/jobs.ts";
import { redisSubscriber } from "../../events/redis-client.ts";
import {
  admissionKeys,
  turnChannel,
  turnKey,
  turnMessageSchema,
  turnSentKey,
} from "../../events/redis-keys.ts";
import { cancel } from "../../functions/cancel.ts";
import { chat } from "../../functions/chat.ts";
import { dispatch } from "../../functions/dispatch.ts";
import { type AdmissionSettings, withdraw } from "../../functions/lib/admission/admission.ts";
import type { Deps } from "../../functions/lib/deps.ts";
import { project } from "../../functions/project.ts";
import { report } from "../../functions/report.ts";
import { resume } from "../../functions/resume.ts";
import { sweep } from "../../functions/sweep.ts";
import { freshRedis } from "../support/parts.ts";
import {
  context,
  endReport,
  eventTypes,
  guide,
  reportsEvent,
  type Stage,
  socketEvent,
  startStage,
  tableEvent,
} from "./stage.ts";

/** What becomes of turns for which there is no room, in the handlers that have to do with them. */

let redisUrl: string;
let stage: Stage;
beforeAll(async () => {
  redisUrl = await freshRedis();
});
beforeEach(async () => {
  stage = await startStage({ redisUrl });
  await stage.deps.redis.flushdb();
});
afterEach(() => stage.close());

const { revision } = guide;
const limited = (settings: Partial<AdmissionSettings>): Deps => ({
  ...stage.deps,
  admission: { ...stage.deps.admission, ...settings },
});

async function say(
  deps: Deps,
  { tenantId = "acme", ...more }: { tenantId?: string } & Record<string, unknown> = {},
): Promise<{ frame: Record<string, unknown>; turnId: string; frames: ServerFrame[] }> {
  const frame = { action: "chat", requestId: randomUUID(), prompt: "Hello?", ...more };
  const connectionId = await stage.open(tenantId);
  await chat(deps)(socketEvent(connectionId, frame), context);
  const turnId = turnIdFor(tenantId, frame.requestId);
  return { frame, turnId, frames: stage.framesTo(connectionId) };
}

/** Asks so many times; each turn with the queue that it was told of. */
async function ask(deps: Deps, times: number, more: { tenantId?: string; priority?: string } = {}) {
  const asked: { turnId: string; queue: AcceptedFrame["queue"] }[] = [];
  for (let i = 0; i < times; i++) {
    const { turnId, frames } = await say(deps, more);
    const [frame] = frames;
    if (frame?.type !== "accepted") throw new Error(`not accepted: ${JSON.stringify(frame)}`);
    asked.push({ turnId, queue: frame.queue });
  }
  return asked;
}

const idsOf = (turns: { turnId: string }[]) => turns.map(({ turnId }) => turnId);
const sentIds = async () => idsOf(await stage.takeJobs());
const end = (deps: Deps, turnId: string) =>
  report(deps)(reportsEvent(endReport(turnId, "Yes.")), context);
const doSweep = async (deps: Deps, ignoreMarkers = false) => {
  await project(deps)(tableEvent(await stage.commits()), context);
  return sweep(deps)({ ignoreMarkers }, context);
};
const doCancel = async (deps: Deps, turnId: string) => {
  const connectionId = await stage.open("acme");
  await cancel(deps)(socketEvent(connectionId, { action: "cancel", turnId }), context);
  return stage.framesTo(connectionId);
};
const typesOf = async (turnId: string) => eventTypes(await stage.deps.log.read(turnStream(turnId)));

describe("a tenant with as many turns in flight as it may have", () => {
  test("is accepted and held, told its place, and sent when turns end, once each", async () => {
    const deps = limited({ tenantInFlight: 2 });
    const turns = await ask(deps, 5);
    const ids = idsOf(turns);
    expect(turns.map(({ queue }) => queue?.position)).toEqual([undefined, undefined, 1, 2, 3]);
    expect(turns[4]?.queue?.estimatedWaitMs).toBeGreaterThan(turns[2]?.queue?.estimatedWaitMs ?? 0);
    expect(await sentIds()).toEqual(ids.slice(0, 2));
    // Nobody else is held up by it.
    const [other] = await ask(deps, 1, { tenantId: "rival" });
    expect(other?.queue).toBeUndefined();
    expect(await sentIds()).toEqual([other?.turnId]);

    await end(deps, ids[1] ?? "");
    expect(await sentIds()).toEqual([ids[2]]);
    await end(deps, ids[1] ?? "");
    await end(deps, ids[1] ?? "");
    expect(await sentIds()).toEqual([]);
    await end(deps, ids[0] ?? "");
    await end(deps, ids[2] ?? "");
    expect(await sentIds()).toEqual(ids.slice(3));
  });

  test("is sent nothing past its place by the outbox and the sweep", async () => {
    const deps = limited({ tenantInFlight: 1 });
    const [first, second] = idsOf(await ask(deps, 2)) as [string, string];
    expect(await sentIds()).toEqual([first]);
    const later = { ...deps, now: () => Date.now() + 60_000 };
    const events = tableEvent(await stage.commits());
    expect(await dispatch(later)(events, context)).toEqual({ batchItemFailures: [] });
    expect(await doSweep(deps)).toMatchObject({ open: 2, marked: 1, waiting: 1, sent: 0 });
    expect(await sentIds()).toEqual([]);
    // Also where the queue has lost all that was sent.
    expect(await doSweep(deps, true)).toMatchObject({ open: 2, sent: 1, waiting: 1 });
    expect(await sentIds()).toEqual([first]);
    await end(deps, first);
    expect(await sentIds()).toEqual([second]);
  });

  test("may ask for a held turn again: it is the same one, in the same place", async () => {
    const deps = limited({ tenantInFlight: 1 });
    await ask(deps, 2);
    const { frame, turnId } = await say(deps);
    await stage.takeJobs();
    const again = await say(deps, frame);
    expect(again.frames).toMatchObject([{ type: "accepted", turnId, queue: { position: 2 } }]);
    expect(await sentIds()).toEqual([]);
    expect(await stage.deps.redis.zcard(admissionKeys(revision).heldInteractive)).toBe(2);
  });

  test("is refused when too many wait, or too long, and nothing is recorded", async () => {
    const deps = limited({ tenantInFlight: 1, tenantHeld: 2 });
    await ask(deps, 3);
    const before = (await stage.commits()).length;
    const [refusal] = (await say(deps)).frames;
    expect(refusal).toMatchObject({ type: "error", code: "overloaded", retryable: true });
    expect(refusal?.type === "error" && refusal.retryAfterMs).toBeGreaterThan(0);
    const impatient = limited({ tenantInFlight: 1, maxWaitMs: 1_000 });
    expect((await say(impatient)).frames).toMatchObject([{ code: "overloaded" }]);
    expect((await stage.commits()).length).toBe(before);
    expect(await stage.deps.redis.zcard(admissionKeys(revision).heldInteractive)).toBe(2);
    // Who need not wait is not refused.
    expect((await ask(impatient, 1, { tenantId: "rival" }))[0]?.queue).toBeUndefined();
  });
});

describe("a revision with as many turns in flight as there is room for", () => {
  test("serves its tenants in turn, whatever one of them has asked before", async () => {
    const deps = limited({ defaultRoom: 1 });
    const flood = idsOf(await ask(deps, 6));
    const [other] = await ask(deps, 1, { tenantId: "rival" });
    expect(other?.queue?.position).toBe(2);
    const order: string[] = [];
    for (let next = (await sentIds())[0]; next !== undefined; next = (await sentIds())[0]) {
      order.push(next);
      await end(deps, next);
    }
    expect(order).toEqual([flood[0], flood[1], other?.turnId, ...flood.slice(2)]);
  });

  test("serves who waits for the answer before who does not", async () => {
    const deps = limited({ defaultRoom: 1 });
    const [first] = await ask(deps, 1);
    const [batch] = await ask(deps, 1, { priority: "batch" });
    const [chatting] = await ask(deps, 1);
    expect(batch?.queue?.position).toBe(1);
    expect(chatting?.queue?.position).toBe(1);
    const [job] = await stage.takeJobs();
    expect(job).toMatchObject({ turnId: first?.turnId, priority: "interactive" });
    await end(deps, first?.turnId ?? "");
    expect(await sentIds()).toEqual([chatting?.turnId]);
    await end(deps, chatting?.turnId ?? "");
    expect(await stage.takeJobs()).toMatchObject([{ turnId: batch?.turnId, priority: "batch" }]);
    const [requested] = await stage.deps.log.read(turnStream(batch?.turnId ?? ""));
    expect(requested?.events).toMatchObject([{ type: "TurnRequested", priority: "batch" }]);
  });

  test("sends what it can when there is more room, by the next tick", async () => {
    const ids = idsOf(await ask(limited({ defaultRoom: 1 }), 4));
    await stage.takeJobs();
    await doSweep(limited({ defaultRoom: 3 }));
    expect((await sentIds()).sort()).toEqual(ids.slice(1, 3).sort());
  });
});

describe("a held turn that is cancelled", () => {
  test("ends at once: in the stream, for those who watch, and in the log; the next one moves up", async () => {
    const deps = limited({ tenantInFlight: 1 });
    const [first, second, third] = await ask(deps, 3);
    const turnId = second?.turnId ?? "";
    expect(await sentIds()).toEqual([first?.turnId]);
    const subscriber = redisSubscriber(stage.deps.redis);
    const heard: unknown[] = [];
    subscriber.on("message", (_, text: string) =>
      heard.push(turnMessageSchema.parse(JSON.parse(text))),
    );
    await subscriber.subscribe(turnChannel(turnId));

    expect(await doCancel(deps, turnId)).toEqual([]);
    expect(await typesOf(turnId)).toEqual([
      ...["TurnRequested", "TurnCancelRequested", "TurnCancelled"],
    ]);
    await expect
      .poll(() => heard)
      .toMatchObject([{ kind: "end", turnId, end: { finishReason: "cancelled", lastSeq: 0 } }]);
    subscriber.disconnect();
    await doCancel(deps, turnId);
    expect(await typesOf(turnId)).toHaveLength(3);

    await end(deps, first?.turnId ?? "");
    expect(await sentIds()).toEqual([third?.turnId]);
  });

  test("can neither be claimed nor resumed into anything but its end", async () => {
    const deps = limited({ tenantInFlight: 1 });
    const [first, second] = await ask(deps, 2);
    const [job] = await stage.takeJobs();
    const turnId = second?.turnId ?? "";
    await doCancel(deps, turnId);
    const stream = tokenStream(stage.deps.redis);
    const claimant = { leaderId: "l", groupId: "g", leaseMs: 1_000 };
    const claim = await stream.claim(jobSchema.parse({ ...job, turnId }), claimant);
    expect(claim).toMatchObject({ status: "sealed", end: { finishReason: "cancelled" } });
    // The report of whoever has got such a job all the same is a good one, and changes nothing.
    const late = {
      ...endReport(turnId, "", "cancelled"),
      epoch: claim.status === "sealed" ? claim.epoch : 0,
    };
    expect(await report(deps)(reportsEvent(late), context)).toEqual({ batchItemFailures: [] });
    expect(await typesOf(turnId)).toHaveLength(3);
    expect(first?.turnId).not.toBe(turnId);

    const resumed = async () => {
      const connectionId = await stage.open("acme");
      const frame = { action: "resume", turnId, after: 0, epoch: 0 };
      await resume(deps)(socketEvent(connectionId, frame), context);
      return stage.framesTo(connectionId);
    };
    // The relay has it from the stream, and after that has expired it stands in the log.
    expect(await resumed()).toEqual([]);
    await stage.deps.redis.del(turnKey(turnId));
    await stage.deps.redis.del(`${turnKey(turnId)}:tokens`);
    expect(await resumed()).toMatchObject([
      { type: "done", turnId, lastSeq: 0, finishReason: "cancelled" },
    ]);
  });

  test("ends by a leader where the cancelling broke off half way", async () => {
    const deps = limited({ tenantInFlight: 1 });
    const [first, second] = await ask(deps, 2);
    const turnId = second?.turnId ?? "";
    await stage.takeJobs();
    await withdraw(deps, revision, turnId);
    expect(await doCancel(deps, turnId)).toEqual([]);
    expect(await typesOf(turnId)).toEqual(["TurnRequested", "TurnCancelRequested"]);
    expect(await doSweep(deps)).toMatchObject({ waiting: 1 });
    await end(deps, first?.turnId ?? "");
    const [job] = await stage.takeJobs();
    const stream = tokenStream(stage.deps.redis);
    const claimant = { leaderId: "l", groupId: "g", leaseMs: 1_000 };
    expect(job?.turnId).toBe(turnId);
    expect(job && (await stream.claim(job, claimant))).toMatchObject({ cancel: "user" });
  });
});

describe("where Redis has lost everything", () => {
  test("the sweep takes in what is open, in the order in which it was asked", async () => {
    const deps = limited({ tenantInFlight: 2 });
    const ids = idsOf(await ask(deps, 5));
    await end(deps, ids[0] ?? "");
    await stage.takeJobs();
    await stage.deps.redis.flushdb();
    // A leader still runs one, and has told so.
    await stage.deps.redis.hset(turnKey(ids[1] ?? ""), "leaseUntilMs", Date.now() + 60_000);

    expect(await doSweep(deps)).toMatchObject({ open: 4, held: 1, sent: 1, waiting: 2 });
    expect(await sentIds()).toEqual([ids[2]]);
    for (const [ended, next] of [
      [1, 3],
      [2, 4],
    ] as const) {
      await end(deps, ids[ended] ?? "");
      expect(await sentIds()).toEqual([ids[next]]);
    }
    expect(await doSweep(deps)).toMatchObject({ open: 2, marked: 2 });
  });

  test("a turn that has ended is not taken in again", async () => {
    const deps = limited({ tenantInFlight: 1 });
    const [first, second] = idsOf(await ask(deps, 2)) as [string, string];
    await project(deps)(tableEvent(await stage.commits()), context);
    await end(deps, first);
    await stage.takeJobs();
    await stage.deps.redis.del(...Object.values(admissionKeys(revision)));
    await stage.deps.redis.del(turnSentKey(second));
    expect(await sweep(deps)({}, context)).toMatchObject({ open: 2, ended: 1, sent: 1 });
    expect(await sentIds()).toEqual([second]);
    expect(await stage.deps.redis.hkeys(admissionKeys(revision).turns)).toEqual([second]);
  });
});

describe("a released job", () => {
  test("that cannot be sent is sent by the sweep", async () => {
    const deps = limited({ tenantInFlight: 1 });
    const [first, second] = idsOf(await ask(deps, 2)) as [string, string];
    await stage.takeJobs();
    const { sqs } = stage.deps;
    const send = sqs.send.bind(sqs);
    Object.assign(sqs, { send: () => Promise.reject(new Error("no queue")) });
    const result = await end(deps, first).finally(() => Object.assign(sqs, { send }));
    expect(result).toEqual({ batchItemFailures: [] });
    expect(await doSweep(deps)).toMatchObject({ sent: 1 });
    expect(await sentIds()).toEqual([second]);
  });

  test("belongs to its tenant's group on the queue, which a fair queue goes by", async () => {
    const inputs: SendMessageCommandInput[] = [];
    const { sqs } = stage.deps;
    const send = sqs.send.bind(sqs);
    const spy = (command: { input: SendMessageCommandInput }) => {
      if (command.input.MessageBody !== undefined) inputs.push(command.input);
      return send(command as Parameters<typeof send>[0]);
    };
    Object.assign(sqs, { send: spy });
    await ask(stage.deps, 1);
    await ask(stage.deps, 1, { tenantId: "rival" });
    const long = "é".repeat(100);
    await ask(stage.deps, 1, { tenantId: long });
    Object.assign(sqs, { send });
    const groups = inputs.map(({ MessageGroupId }) => MessageGroupId);
    expect(groups).toEqual(["acme", "rival", expect.stringMatching(/^[0-9a-f]{64}$/)]);
    expect(await stage.takeJobs()).toHaveLength(3);
  });
});
