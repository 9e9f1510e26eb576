import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterEach, beforeEach, expect, test } from "vitest";
import { announceGroup, isToDrain } from "../../dataplane/group.ts";
import { groupBeatKey, groupBeatSchema, groupDrainKey, groupKey } from "../../events/redis-keys.ts";
import { eventually } from "../support/eventually.ts";
import { freshRedis } from "../support/parts.ts";

let redis: Redis;
beforeEach(async () => {
  redis = new Redis(await freshRedis());
});
afterEach(() => redis.disconnect());

test("a group beats, hears that it is to drain, and says so; what it said outlives it for a minute", async () => {
  const groupId = `r-${randomUUID()}`;
  const beat = async () => {
    const text = await redis.get(groupBeatKey(groupId));
    return text === null ? undefined : groupBeatSchema.parse(JSON.parse(text));
  };
  let isAccepting = true;
  const leave = announceGroup(redis, groupId, {
    describe: () => ({
      ...{ revision: "r", leaderId: "leader", epoch: 5, ranks: 2, slots: 3 },
      ...{ running: 1, isAccepting },
    }),
    drained: () => {
      isAccepting = false;
    },
  });
  const first = await eventually(async () => (await beat()) ?? false);
  expect(first).toMatchObject({ revision: "r", epoch: 5, ranks: 2, slots: 3, running: 1 });
  expect(first.isAccepting).toBe(true);
  expect(Date.now() - first.at).toBeLessThan(10_000);
  expect(await redis.pttl(groupBeatKey(groupId))).toBeGreaterThan(
    await redis.pttl(groupKey(groupId)),
  );

  expect(await isToDrain(redis, groupId)).toBe(false);
  await redis.set(groupDrainKey(groupId), "1");
  await eventually(async () => (await beat())?.isAccepting === false);
  expect(await isToDrain(redis, groupId)).toBe(true);

  await leave();
  expect(await beat()).toBeUndefined();
});
