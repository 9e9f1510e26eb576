import { randomUUID } from "node:crypto";
import { Redis } from "ioredis";
import { afterEach, beforeEach, expect, test } from "vitest";
import { announceGroup, isToDrain } from "../../dataplane/group.ts";
import {
  groupBeatKey,
  groupBeatSchema,
  groupDrainKey,
  groupKey,
  rotationKey,
} from "../../events/redis-keys.ts";
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
  let [tokens, rotations] = [0, 0];
  const leave = announceGroup(redis, groupId, {
    describe: () => ({
      ...{ revision: "r", leaderId: "leader", epoch: 5, ranks: 2, slots: 3 },
      ...{ running: 1, isAccepting, kvUse: 0.25, tokens },
    }),
    drained: () => {
      isAccepting = false;
    },
    rotated: () => {
      rotations++;
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

  tokens = 1_000;
  await eventually(async () => ((await beat())?.tokensPerSecond ?? 0) > 100);
  expect((await beat())?.kvUse).toBe(0.25);

  // A rotation that was of an earlier start of this group, or is of another group, is not its own.
  for (const [other, epoch] of [
    [groupId, 4],
    ["r-other", 9],
  ] as const) {
    await redis.set(rotationKey("r"), JSON.stringify({ groupId: other, epoch }));
    const seen = (await beat())?.at ?? 0;
    await eventually(async () => ((await beat())?.at ?? 0) > seen);
    expect(rotations).toBe(0);
  }
  await redis.set(rotationKey("r"), JSON.stringify({ groupId, epoch: 5 }));
  await eventually(() => rotations === 1);

  await leave();
  expect(await beat()).toBeUndefined();
});
