import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { admissionKeys, groupDrainKey, groupsKey } from "../../events/redis-keys.ts";
import { admit, leave } from "../../functions/lib/admission/admission.ts";
import { observe } from "../../functions/lib/rollout/observe.ts";
import { observeGroups } from "../../functions/lib/rollout/observe-groups.ts";
import { observeLoad, observeMeasures } from "../../functions/lib/rollout/observe-turns.ts";
import { load, turns } from "../../functions/lib/streams.ts";
import { RolloutStage } from "./rollout-stage.ts";
import type { Stage } from "./stage.ts";

let stage: Stage;
let fresh: () => RolloutStage;
let one: RolloutStage;
let revision: string;
beforeAll(async () => {
  ({ stage, fresh } = await RolloutStage.start());
});
afterAll(() => stage.close());
beforeEach(() => {
  one = fresh();
  revision = one.revision(1);
});

async function admitted(turnId: string): Promise<void> {
  const { state } = await load(one.deps.log, turns, turnId);
  if (state.status === "none") throw new Error("There is no such turn.");
  await admit(one.deps, state);
}

describe("the load of a revision", () => {
  test("none was ever asked for", async () => {
    expect(await observeLoad(one.deps, revision)).toEqual({
      ...{ openTurns: 0, waitingTurns: 0, queueWaitMs: 0, lastTurnAt: undefined },
    });
  });

  test("counts turns that wait and that run, and when the last was asked for or has ended", async () => {
    await one.turn(revision, { end: "completed" });
    await one.turn(revision, { end: "failed" });
    await one.turn(revision, { end: "started" });
    await one.turn(one.revision(2));
    one.time += 500;
    await one.turn(revision);
    one.time += 1_500;
    const lastTurnAt = one.time - 1_500;
    expect(await observeLoad(one.deps, revision)).toEqual({
      ...{ openTurns: 2, waitingTurns: 1, queueWaitMs: 1_500, lastTurnAt },
    });
  });

  test("knows of turns that the projection has not told yet, by admission", async () => {
    const turnId = await one.turn(revision, { isTold: false });
    await admitted(turnId);
    one.time += 300;
    const lastTurnAt = one.time - 300;
    const load = { openTurns: 1, waitingTurns: 1, queueWaitMs: 300, lastTurnAt };
    expect(await observeLoad(one.deps, revision)).toEqual(load);
    // Told meanwhile, it counts once.
    await one.tellAll(turns.nameOf(turnId));
    expect(await observeLoad(one.deps, revision)).toEqual(load);
    await leave(one.deps, revision, turnId);
    expect(await one.deps.redis.hlen(admissionKeys(revision).turns)).toBe(0);
    expect(await observeLoad(one.deps, revision)).toMatchObject({ openTurns: 1 });
  });
});

describe("the measures of a revision", () => {
  test("are those of the turns that were asked for since then, and have ended", async () => {
    await one.turn(revision, { end: "failed", firstTokenMs: 9_000 });
    one.time += 1_000;
    const since = one.time;
    for (let i = 1; i <= 20; i++) {
      await one.turn(revision, { end: "completed", firstTokenMs: i * 10 });
    }
    await one.turn(revision, { end: "failed" });
    await one.turn(revision, { end: "failed", code: "prompt_too_long" });
    await one.turn(revision, { end: "started" });
    expect(await observeMeasures(one.deps, { revision, since })).toEqual({
      // p95 of 20 values is the 19th. 10 tokens after the first took 500 ms.
      ...{ since, turns: 22, errors: 1, firstTokenP95Ms: 190, interTokenP95Ms: 50 },
    });
    expect(await observeMeasures(one.deps, { revision, since, until: since - 1 })).toEqual({
      ...{ since, turns: 0, errors: 0, firstTokenP95Ms: null, interTokenP95Ms: null },
    });
  });
});

describe("groups", () => {
  test("of the cluster and of those that are only heard of, with their heartbeats", async () => {
    const { redis } = one.deps;
    const [groupId, stray] = [`${revision}-0`, `${revision}-7`];
    await one.cluster.start(groupId, revision);
    await one.cluster.start(stray, revision);
    one.cluster.groups.delete(stray);
    await redis.set(groupDrainKey(stray), "1");
    const heartbeat = { at: one.time, epoch: one.time, ranks: 2, slots: 4, running: 0 };
    const { groups } = await observeGroups(one.deps, one.model, [revision]);
    expect(groups).toEqual([
      {
        ...{ groupId, revision, exists: true, isDraining: false, failure: undefined },
        heartbeat: { ...heartbeat, isAccepting: true },
      },
      {
        ...{ groupId: stray, revision, exists: false, isDraining: true, failure: undefined },
        heartbeat: { ...heartbeat, isAccepting: true },
      },
    ]);
  });

  test("one that has never said anything has no heartbeat", async () => {
    one.cluster.natures.set(revision, { isMute: true });
    await one.cluster.start(`${revision}-0`, revision);
    await one.deps.redis.zadd(groupsKey(revision), one.time, `${revision}-0`);
    const { groups } = await observeGroups(one.deps, one.model, []);
    expect(groups).toMatchObject([{ exists: true, heartbeat: undefined }]);
  });

  test("a heartbeat that cannot be read fails the observation: it is not taken for none", async () => {
    await one.cluster.start(`${revision}-0`, revision);
    await one.deps.redis.set(`group:{${revision}-0}:beat`, '{"at":"yesterday"}');
    await expect(observe(one.deps, one.model, await one.state())).rejects.toThrow();
  });
});
