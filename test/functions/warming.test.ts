import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { groupKey, groupsKey, warmingKey } from "../../events/redis-keys.ts";
import { chat } from "../../functions/chat.ts";
import { dispatch } from "../../functions/dispatch.ts";
import { modelCatalog } from "../../functions/lib/models.ts";
import { warmingOf } from "../../functions/lib/rollout/warming.ts";
import { manage } from "../../functions/manage.ts";
import { ops } from "../../functions/ops.ts";
import { RolloutStage } from "./rollout-stage.ts";
import { context, guide, type Stage, socketEvent, tableEvent } from "./stage.ts";

let stage: Stage;
let fresh: () => RolloutStage;
beforeAll(async () => {
  ({ stage, fresh } = await RolloutStage.start());
});
afterAll(() => stage.close());

const silent = { warn: () => {} };

test("a model that sleeps is told to wake up, and how long that takes", async () => {
  const one = fresh();
  const revision = one.revision(1);
  await one.adopt({
    scale: { min: 0, zeroAfterMs: 5_000, cooldown: { upMs: 0, downMs: 0 } },
  });
  expect(await warmingOf(one.deps, revision, silent)).toBeUndefined();
  for (let i = 0; i < 4; i++) await one.tick(6_000);
  expect(one.cluster.groups.size).toBe(0);
  // The first one was ready a moment after it was asked for; a second is the least that is told.
  expect(await warmingOf(one.deps, revision, silent)).toMatchObject({
    estimatedMs: expect.toSatisfy((ms) => ms > 0 && ms < 300_000),
  });
  await one.turn(revision);
  await manage(one.deps)({ model: one.model }, context);
  expect([...one.cluster.groups.keys()]).toEqual([`${revision}-1`]);
  expect(await warmingOf(one.deps, revision, silent)).toBeUndefined();
});

test("where a group lives nothing is said, whatever was told before", async () => {
  const one = fresh();
  const revision = one.revision(1);
  await one.deps.redis.zadd(groupsKey(revision), one.time, "g");
  await one.deps.redis.hset(groupKey("g"), "slots", "4");
  const told = { at: one.time, estimatedMs: 5_000, isForming: true };
  await one.deps.redis.set(warmingKey(revision), JSON.stringify(told));
  expect(await warmingOf(one.deps, revision, silent)).toBeUndefined();
  const other = one.revision(2);
  await one.deps.redis.set(warmingKey(other), JSON.stringify(told));
  one.time += 2_000;
  expect(await warmingOf(one.deps, other, silent)).toEqual({ estimatedMs: 3_000, isAsleep: false });
});

test("accepted says so", async () => {
  const one = fresh();
  const revision = guide.revision;
  one.cluster.natures.set(revision, { isMute: true });
  const model = guide.model;
  const adopt = { command: "adopt", model, revision, groupIds: [`${revision}-0`] };
  expect(await ops(one.deps)(adopt, context)).toMatchObject({ ok: true });
  const connectionId = await stage.open("acme");
  const frame = () => ({ action: "chat", requestId: randomUUID(), prompt: "Hello?" });
  await manage(one.deps)({ model }, context);
  await chat(one.deps)(socketEvent(connectionId, frame()), context);
  expect(stage.framesTo(connectionId)).toMatchObject([
    { type: "accepted", revision, warming: { estimatedMs: 300_000 } },
  ]);
});

test("the first turn after a rest wakes its revision at once, and the ones after it wake nobody", async () => {
  const one = fresh();
  const { model, revision } = { model: one.model, revision: one.revision(1) };
  const queueUrl = stage.deps.models.pick(undefined).queueUrl;
  const models = modelCatalog([{ ...guide, model, revision, queueUrl }]);
  const deps = { ...one.deps, models };
  await one.adopt({ scale: { min: 0, zeroAfterMs: 5_000, cooldown: { upMs: 0, downMs: 0 } } });
  for (let i = 0; i < 4; i++) await one.tick(6_000);
  expect((await one.state()).groups).toEqual([]);
  const connectionId = await stage.open("acme");
  const ask = () => {
    const frame = { action: "chat", requestId: randomUUID(), prompt: "Hello?" };
    return chat(deps)(socketEvent(connectionId, frame), context);
  };
  await ask();
  const asked = (await stage.commits())
    .filter(({ stream }) => stream.startsWith("turn/"))
    .slice(-1);
  const follow = () => dispatch(deps)(tableEvent(asked), context);
  await follow();
  const [added] = (await one.commits()).slice(-1);
  expect(added?.events).toMatchObject([
    { type: "GroupAdded", groupId: `${revision}-1`, reason: "the first turn after a rest" },
  ]);
  await follow();
  expect((await one.commits()).at(-1)).toEqual(added);
  // What was recorded brings the manager here.
  await manage(deps)(tableEvent([added ?? expect.unreachable()]), context);
  expect([...one.cluster.groups.keys()]).toEqual([`${revision}-1`]);
  expect(stage.framesTo(connectionId)).toMatchObject([
    { type: "accepted", revision, warming: { estimatedMs: expect.any(Number) } },
  ]);
});
