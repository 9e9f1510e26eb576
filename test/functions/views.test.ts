import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Change, noticeSchema } from "../../events/observations.ts";
import { redisSubscriber } from "../../events/redis-client.ts";
import {
  groupBeatKey,
  groupsKey,
  noticeChannel,
  observersKey,
  turnKey,
  turnSentKey,
} from "../../events/redis-keys.ts";
import { viewDataSchemas } from "../../events/views.ts";
import { project } from "../../functions/project.ts";
import { eventually } from "../support/eventually.ts";
import { Operator } from "./operator-stage.ts";
import { RolloutStage } from "./rollout-stage.ts";
import { context, type Stage, tableEvent } from "./stage.ts";

/** Every view, by the function behind the WebSocket, on real stores. */

let stage: Stage;
let fresh: () => RolloutStage;
let one: RolloutStage;
let acme: Operator;
let rival: Operator;
beforeAll(async () => {
  ({ stage, fresh } = await RolloutStage.start());
});
afterAll(() => stage.close());
beforeEach(async () => {
  one = fresh();
  await one.adopt();
  await one.tellAll(`rollout/${one.model}`);
  acme = new Operator(stage, one, "acme");
  rival = new Operator(stage, one, "rival");
});

const words = /Is it\?|It is so/;

describe("turn", () => {
  test("tells what happened to it, when, and where the time went, without a word of it", async () => {
    const turnId = await one.turn(one.revision(1), { end: "completed", firstTokenMs: 120 });
    const requestedAt = one.time;
    await stage.deps.redis.set(turnSentKey(turnId), String(requestedAt + 2));
    const seen = await acme.see("turn", { turnId });
    expect(viewDataSchemas.turn.parse(seen)).toEqual(seen);
    expect(seen).toMatchObject({
      ...{ turnId, tenantId: "acme", status: "completed", revision: one.revision(1), tokens: 11 },
      ...{ groupId: `${one.revision(1)}-0`, endedAt: requestedAt, errorCode: null },
      spent: { queuedMs: 0, firstTokenMs: 120 },
      usage: { promptTokens: 5, completionTokens: 11 },
      weights: [{ revision: one.revision(1), percent: 100 }],
    });
    expect(seen.timeline.map(({ what, at }) => [what, at - requestedAt])).toEqual([
      ["requested", 0],
      ["claimed", 0],
      ["completed", 0],
      ["sent", 2],
      ["first token", 120],
    ]);
    const [requested] = seen.events;
    expect(requested).toMatchObject({ type: "TurnRequested", prompt: { omitted: 6 } });
    expect(JSON.stringify(seen)).not.toMatch(words);
  });

  test("of one that runs says how far it is, by the token stream", async () => {
    const turnId = await one.turn(one.revision(1), { end: "started" });
    const firstTokenAt = one.time + 40;
    await stage.deps.redis.hset(turnKey(turnId), { lastSeq: 7, firstTokenAt });
    one.time += 1_000;
    const seen = await acme.see("turn", { turnId });
    expect(seen).toMatchObject({ status: "running", tokens: 7, endedAt: null, timings: null });
    expect(seen.spent).toEqual({ queuedMs: 0, firstTokenMs: 40, generatingMs: 960 });
    const { turns } = await acme.see("turns", { status: "open" });
    expect(turns.find((turn) => turn.turnId === turnId)).toMatchObject({ tokens: 7 });
  });

  test("another tenant's is not there", async () => {
    const turnId = await one.turn(one.revision(1));
    for (const fields of [
      { view: "turn", turnId },
      { view: "fold", stream: `turn/${turnId}` },
      { view: "fold", stream: `conversation/conv_${turnId}` },
    ]) {
      const refused = await rival.send({ action: "observe", ...fields });
      expect(refused).toMatchObject({ type: "error", requestId: "r", retryable: false });
      expect(JSON.stringify(refused)).not.toContain("acme");
    }
  });
});

describe("turns", () => {
  test("pages through the tenant's own, those asked for last first", async () => {
    const model = { model: one.model };
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      one.time += 10;
      ids.unshift(await one.turn(one.revision(1), i % 2 === 0 ? { end: "completed" } : {}));
      await one.turn(one.revision(1), { tenantId: "rival" });
    }
    const first = await acme.see("turns", { ...model, limit: 3 });
    const second = await acme.see("turns", { ...model, limit: 3, before: first.next });
    expect([...first.turns, ...second.turns].map(({ turnId }) => turnId)).toEqual(ids);
    expect(second.next).toBeNull();
    const open = await acme.see("turns", { ...model, status: "open" });
    expect(open.turns.map(({ turnId }) => turnId)).toEqual([ids[1], ids[3]]);
    expect((await acme.see("turns", { revision: one.revision(9) })).turns).toEqual([]);
    expect(viewDataSchemas.turns.parse(first)).toEqual(first);
    expect(await acme.send({ action: "observe", view: "turns", before: "x" })).toMatchObject({
      ...{ type: "error", code: "invalid_field", field: "before" },
    });
  });
});

describe("groups, queues, overview and series", () => {
  test("a group shows its beat, and is silent when it was not heard of for ten seconds", async () => {
    const groupId = `${one.revision(1)}-0`;
    const find = async () =>
      (await acme.see("groups")).groups.find((group) => group.groupId === groupId);
    const beat = JSON.parse((await stage.deps.redis.get(groupBeatKey(groupId))) ?? "{}");
    await stage.deps.redis.set(
      groupBeatKey(groupId),
      JSON.stringify({ ...beat, kvUse: 0.5, tokensPerSecond: 31.5 }),
    );
    expect(await find()).toMatchObject({
      ...{ status: "ready", model: one.model, revision: one.revision(1), slots: 4, losses: 0 },
      ...{ isAccepting: true, kvUse: 0.5, tokensPerSecond: 31.5, beatAgeMs: 0 },
    });
    one.time += 10_001;
    expect(await find()).toMatchObject({ status: "silent", isAccepting: false, kvUse: null });
    const stranger = `stranger-${randomUUID()}`;
    await stage.deps.redis.zadd(groupsKey(one.revision(1)), one.time, stranger);
    await stage.deps.redis.set(
      groupBeatKey(stranger),
      JSON.stringify({ ...beat, at: one.time, running: 2 }),
    );
    const { groups } = await acme.see("groups");
    expect(groups.find((group) => group.groupId === stranger)).toMatchObject({
      ...{ status: "ready", running: 2, kvUse: null },
    });
    expect(viewDataSchemas.groups.parse({ groups })).toEqual({ groups });
  });

  test("the queues, with how long the oldest turn has waited", async () => {
    const { queues } = await acme.see("queues");
    expect(viewDataSchemas.queues.parse({ queues })).toEqual({ queues });
    expect(queues.map(({ kind }) => kind)).toEqual(["jobs", "reports"]);
    expect(queues[0]).toMatchObject({ revision: "guide-1", waiting: 0, deadLetters: 0 });
  });

  test("the overview counts", async () => {
    await one.turn(one.revision(1));
    await one.turn(one.revision(1), { end: "failed" });
    one.time += 1_000;
    const seen = await acme.see("overview");
    expect(viewDataSchemas.overview.parse(seen)).toEqual(seen);
    expect(seen.stage).toBe("test");
    expect(seen.models).toContainEqual({
      ...{ model: one.model, rolloutPhase: null },
      weights: [{ revision: one.revision(1), percent: 100 }],
    });
    expect(seen.groups.ready).toBeGreaterThan(0);
    expect(seen.turns.waiting).toBeGreaterThan(0);
    expect(seen.turns.oldestWaitMs).toBeGreaterThanOrEqual(1_000);
    expect(seen.turns.lastMinute.failed).toBeGreaterThan(0);
    expect(seen.slo.errorPercent).toBeGreaterThan(0);
  });

  test("the series puts turns into the buckets in which they ended", async () => {
    const revision = one.revision(1);
    const start = one.time;
    await one.turns(revision, 2, { end: "completed", firstTokenMs: 100 });
    await one.turn(revision, { end: "completed", firstTokenMs: 300 });
    one.time = start + 20_000;
    await one.turn(revision, { end: "failed" });
    one.time = start + 29_000;
    const seen = await acme.see("series", { windowMs: 30_000, buckets: 3, revision });
    expect(viewDataSchemas.series.parse(seen)).toEqual(seen);
    expect(seen).toMatchObject({ from: start - 1_000, to: start + 29_000, bucketMs: 10_000 });
    expect(seen.points).toMatchObject([
      { turns: 3, failed: 0, tokensPerSecond: 3.3, firstTokenP50Ms: 100, firstTokenP95Ms: 300 },
      { turns: 0, failed: 0, tokensPerSecond: 0, firstTokenP50Ms: null },
      { turns: 1, failed: 1, firstTokenP50Ms: null, interTokenP95Ms: null },
    ]);
    // Ten of eleven tokens come after the first, in 500 ms.
    expect(seen.points[0]?.interTokenP95Ms).toBe(50);
  });
});

describe("log", () => {
  test("pages in both directions, over all shards, and hides other tenants'", async () => {
    const own: string[] = [];
    for (let i = 0; i < 6; i++) {
      one.time += 10;
      own.push(await one.turn(one.revision(1), { isTold: i % 2 === 0 }));
      await one.turn(one.revision(1), { tenantId: "rival", isTold: i % 2 === 0 });
    }
    const since = (await one.commits())[0]?.position;
    const forward = await acme.see("log", { after: since, stream: "turn/", limit: 4 });
    const rest = await acme.see("log", { after: forward.next, stream: "turn/" });
    const streams = [...forward.commits, ...rest.commits].map(({ stream }) => stream);
    expect(streams).toEqual(own.map((id) => `turn/${id}`));
    const back = await acme.see("log", { stream: "turn/", limit: 4 });
    expect(back.commits.map(({ stream }) => stream)).toEqual(streams.toReversed().slice(0, 4));
    const further = await acme.see("log", { stream: "turn/", limit: 2, before: back.next });
    expect(further.commits.map(({ stream }) => stream)).toEqual(streams.toReversed().slice(4, 6));
    expect(JSON.stringify([forward, rest, back])).not.toMatch(/rival|Is it\?/);
    expect(viewDataSchemas.log.parse(back)).toEqual(back);
    expect(back.range.last?.position).toBe((await stage.commits()).at(-1)?.position);
  });

  test("of one stream, and of one type of event", async () => {
    const turnId = await one.turn(one.revision(1), { end: "completed" });
    const { commits } = await acme.see("log", { stream: `turn/${turnId}` });
    expect(commits.map(({ version }) => version)).toEqual([3, 2, 1]);
    const started = await acme.see("log", { stream: `turn/${turnId}`, type: "TurnStarted" });
    expect(started.commits).toMatchObject([{ version: 2, events: [{ type: "TurnStarted" }] }]);
    expect((await rival.see("log", { stream: `turn/${turnId}` })).commits).toEqual([]);
    const rollouts = await rival.see("log", { stream: `rollout/${one.model}` });
    expect(rollouts.commits.at(-1)?.events).toMatchObject([{ type: "RevisionAdopted" }]);
  });
});

describe("fold", () => {
  test("a stream's state at any moment", async () => {
    const turnId = await one.turn(one.revision(1), { end: "completed" });
    const stream = `turn/${turnId}`;
    const { commits } = await acme.see("log", { stream });
    const [, started] = commits;
    expect(await acme.see("fold", { stream })).toMatchObject({
      ...{ version: 3, state: { status: "completed", text: { omitted: 9 } } },
    });
    expect(await acme.see("fold", { stream, position: started?.position })).toMatchObject({
      ...{ version: 2, state: { status: "running", prompt: { omitted: 6 } } },
    });
    expect(await acme.see("fold", { stream, at: 0 })).toMatchObject({ version: 0, at: null });
    const rollout = await rival.see("fold", { stream: `rollout/${one.model}` });
    expect(rollout.state).toMatchObject({ promoted: one.revision(1) });
    const group = await acme.see("fold", { stream: `group/${one.revision(1)}-0` });
    expect(group.state).toMatchObject({ status: "ready" });
    expect(await acme.send({ action: "observe", view: "fold", stream: "x/y" })).toMatchObject({
      ...{ type: "error", code: "not_found", field: "stream" },
    });
  });
});

test("rollout shows the status and what led to it", async () => {
  const seen = await rival.see("rollout", { model: one.model });
  expect(viewDataSchemas.rollout.parse(seen)).toEqual(seen);
  expect(seen.status).toMatchObject({ status: "serving", promoted: one.revision(1) });
  expect(seen.history[0]?.event.type).toBe("RevisionAdopted");
});

test("the function ops sees all tenants, or the one that it is asked about", async () => {
  const turnId = await one.turn(one.revision(1));
  const others = await one.turn(one.revision(1), { tenantId: "rival" });
  const ask = (fields: object) =>
    one.ask("observe", { model: undefined, view: "turns", revision: one.revision(1), ...fields });
  const idsIn = (answer: unknown) =>
    (answer as { data: { turns: { turnId: string }[] } }).data.turns.map((turn) => turn.turnId);
  expect(idsIn(await ask({})).sort()).toEqual([turnId, others].sort());
  expect(idsIn(await ask({ tenantId: "rival" }))).toEqual([others]);
});

test("whoever observes is heard of by project, which says what it has told", async () => {
  const subscriber = redisSubscriber(stage.deps.redis);
  const heard: { tenantId: string | null; change: Change }[] = [];
  subscriber.on("message", (_, text) => heard.push(noticeSchema.parse(JSON.parse(text))));
  await subscriber.subscribe(noticeChannel);
  const turnId = await one.turn(one.revision(1), { isTold: false });
  const commits = [...(await one.commits()), ...(await one.deps.log.read(`turn/${turnId}`))];
  await stage.deps.redis.del(observersKey);
  await project(one.deps)(tableEvent(commits), context);
  await acme.see("queues");
  await project(one.deps)(tableEvent(commits), context);
  await eventually(() => heard.some(({ change }) => change.stream === `turn/${turnId}`));
  subscriber.disconnect();
  const own = heard.filter(({ change }) => change.stream === `turn/${turnId}`);
  expect(own).toMatchObject([{ tenantId: "acme", change: { types: ["TurnRequested"] } }]);
  const rollout = heard.find(({ change }) => change.stream === `rollout/${one.model}`);
  expect(rollout?.tenantId).toBeNull();
});

test("without its scope nothing is seen", async () => {
  const chatter = new Operator(stage, one, "acme", ["chat", "history"]);
  for (const view of ["overview", "turns", "log"]) {
    expect(await chatter.send({ action: "observe", view })).toMatchObject({
      ...{ type: "error", code: "forbidden", requestId: "r" },
    });
  }
  const viewer = new Operator(stage, one, "acme", ["ops:read"]);
  const operation = { command: "pause", model: one.model };
  expect(await viewer.send({ action: "operate", operation })).toMatchObject({ code: "forbidden" });
});
