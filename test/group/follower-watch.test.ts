import { Redis } from "ioredis";
import { expect, onTestFinished, test } from "vitest";
import { FollowerWatch } from "../../dataplane/follower-watch.ts";
import { followGroup } from "../../dataplane/group-roll.ts";
import { defineScripts } from "../../dataplane/scripts.ts";
import { eventually } from "../support/eventually.ts";
import { freshRedis } from "../support/parts.ts";

async function startWatch(followers: number) {
  const redis = new Redis(await freshRedis(), { maxRetriesPerRequest: null });
  defineScripts(redis);
  const clock = { ms: 0 };
  const errors: unknown[] = [];
  const groupId = "axon-test-0";
  const watch = new FollowerWatch({
    ...{ redis, groupId, followers },
    now: () => clock.ms,
    onError: (error) => errors.push(error),
  });
  await watch.open(1_000);
  let failure: Error | undefined;
  watch.failure.catch((error: Error) => {
    failure = error;
  });
  onTestFinished(async () => {
    await watch.close();
    redis.disconnect();
  });
  let count = 0;
  const beat = (rank: number, epoch = watch.epoch) => {
    count += 1;
    return followGroup(redis, groupId, { rank, beat: { epoch, count } });
  };
  /** Passes time as a running process does: a little for each look. */
  const pass = async (ms: number) => {
    for (let passed = 0; passed < ms; passed += 250) {
      clock.ms += 250;
      await new Promise((resolve) => setTimeout(resolve, 260));
    }
  };
  return { watch, clock, redis, groupId, beat, pass, failure: () => failure };
}

test("all followers have to join; a beat of another epoch does not count", async () => {
  const { watch, beat } = await startWatch(2);
  let isPresent = false;
  watch.present().then(() => {
    isPresent = true;
  });
  await beat(1);
  expect(await beat(2, 999)).toEqual({ epoch: 1_000, state: "forming" });
  await eventually(() => watch.missing().length === 1);
  expect(watch.missing()).toEqual([2]);
  expect(isPresent).toBe(false);
  await beat(2);
  await eventually(() => isPresent);
});

test("silence ends a ready group, and only that", async () => {
  const { watch, beat, pass, failure } = await startWatch(1);
  await beat(1);
  await watch.present();
  await pass(3_000);
  expect(failure()).toBeUndefined();
  await beat(1);
  watch.ready();
  await pass(2_000);
  expect(failure()).toBeUndefined();
  await pass(1_000);
  expect(failure()).toMatchObject({ code: "follower_lost" });
});

test("after a pause of this process, or of Redis, followers get their time anew", async () => {
  const { watch, clock, beat, pass, failure, redis } = await startWatch(1);
  await beat(1);
  await watch.present();
  watch.ready();
  clock.ms += 60_000;
  await pass(500);
  expect(failure()).toBeUndefined();
  // Redis loses everything: the leader writes itself anew, and the follower beats on.
  await redis.flushdb();
  await eventually(async () => (await beat(1)).epoch === watch.epoch);
  await pass(1_000);
  expect(failure()).toBeUndefined();
  expect(watch.missing()).toEqual([]);
});

test("a leader that a newer one has replaced is over, and changes nothing", async () => {
  const { watch, redis, groupId, failure } = await startWatch(1);
  const newer = new FollowerWatch({
    ...{ redis, groupId, followers: 1 },
    now: () => performance.now(),
    onError: () => {},
  });
  await newer.open(1);
  onTestFinished(() => newer.close());
  expect(newer.epoch).toBe(watch.epoch + 1);
  await eventually(() => failure() !== undefined);
  expect(failure()).toMatchObject({ code: "superseded" });
  await watch.close();
  expect(await redis.hgetall("group:{axon-test-0}:lead")).toEqual({
    epoch: String(newer.epoch),
    state: "forming",
  });
});
