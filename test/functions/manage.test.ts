import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ClusterError } from "../../events/cluster-port.ts";
import { groupStream, rolloutStream } from "../../events/event-log.ts";
import { routeKey } from "../../events/redis-keys.ts";
import { statusOf } from "../../events/rollout-state.ts";
import { execute } from "../../functions/lib/execute.ts";
import { readWeights } from "../../functions/lib/rollout/routing.ts";
import { turns } from "../../functions/lib/streams.ts";
import { manage } from "../../functions/manage.ts";
import { commandOf } from "../../functions/report.ts";
import { RolloutStage } from "./rollout-stage.ts";
import { context, endReport, type Stage, tableEvent } from "./stage.ts";

let stage: Stage;
let fresh: () => RolloutStage;
let one: RolloutStage;
beforeAll(async () => {
  ({ stage, fresh } = await RolloutStage.start());
});
afterAll(() => stage.close());
beforeEach(async () => {
  one = fresh();
  await one.adopt();
});

const quick = {
  ...{ steps: [10, 50, 100], bakeMs: 5_000, by: "tester" },
  gates: { minimumTurns: 2, firstTokenP95Ms: 1_000, interTokenP95Ms: null, slowdown: null },
  timeouts: { capacityMs: 60_000, formMs: 60_000, stepMs: 60_000, drainMs: 60_000, settleMs: 0 },
};
const start = (more: Record<string, unknown> = {}) =>
  one.ask("start", { revision: one.revision(2), rolloutId: "r2", ...quick, ...more });

const weightsNow = async () => (await readWeights(one.deps.redis, one.model))?.weights;
const status = async () => statusOf(await one.state());

test("a revision that is adopted serves: its group is ready, and the weights are in force", async () => {
  expect(await status()).toBe("serving");
  expect(await weightsNow()).toEqual([{ revision: one.revision(1), percent: 100 }]);
  const answer = await one.ask("status");
  expect(answer).toMatchObject({ ok: true, status: { groups: [{ status: "ready", slots: 4 }] } });
});

test("a revision on its way out has no turns that have ended by the log, told or not", async () => {
  const old = one.revision(1);
  const turnId = await one.turn(old, { end: "started" });
  await one.ask("retire", { revision: old });
  await one.tick();
  expect(await one.types()).not.toContain("RevisionDraining");
  const report = commandOf(endReport(turnId, "It is."));
  await execute(one.deps.log, turns, turnId, () => report);
  for (let i = 0; i < 5; i++) await one.tick();
  expect((await one.types()).slice(-3)).toEqual([
    ...["GroupReleased", "GroupRemoved", "RevisionRetired"],
  ]);
});

test("a rollout moves the traffic step by step, and the old revision retires when its turns have ended", async () => {
  const [old, next] = [one.revision(1), one.revision(2)];
  const open = await one.turn(old, { end: "started" });
  await start();
  await one.tick();
  for (const percent of [10, 50]) {
    expect(await weightsNow()).toEqual([
      { revision: old, percent: 100 - percent },
      { revision: next, percent },
    ]);
    await one.turns(next, 2, { end: "completed" });
    await one.tick(6_000);
  }
  expect(await weightsNow()).toEqual([{ revision: next, percent: 100 }]);
  await one.turns(next, 2, { end: "completed" });
  await one.tick(6_000);
  expect(await one.state()).toMatchObject({ promoted: next, retiring: { revision: old } });

  // The turn on it keeps the old group.
  await one.tick();
  await one.tick();
  expect(one.cluster.orders.map(({ type }) => type)).not.toContain("DrainGroup");
  await endTurn(open, old);
  for (let i = 0; i < 3; i++) await one.tick();
  expect(await status()).toBe("serving");
  expect([...one.cluster.groups.keys()]).toEqual([`${next}-0`]);
  expect(await one.types()).toEqual([
    ...["RevisionAdopted", "RolloutRequested", "RolloutStarted"],
    ...["CapacityAsked", "CapacityReady", "GroupAdded", "GroupsReady", "CanaryStepped"],
    ...[
      "GatePassed",
      "CanaryBaked",
      "CapacityAsked",
      "CapacityReady",
      "GroupsReady",
      "CanaryStepped",
    ],
    ...[
      "GatePassed",
      "CanaryBaked",
      "CapacityAsked",
      "CapacityReady",
      "GroupsReady",
      "CanaryStepped",
    ],
    ...["GatePassed", "CanaryBaked", "RolloutPromoted"],
    ...["RevisionDraining", "GroupReleased", "GroupRemoved", "RevisionRetired"],
  ]);
});

async function endTurn(turnId: string, revision: string): Promise<void> {
  const report = { ...endReport(turnId, "Yes."), groupId: `${revision}-0`, at: one.time };
  await execute(one.deps.log, turns, turnId, () => commandOf(report));
  await one.tellAll(turns.nameOf(turnId));
}

test("a revision that is slow fails its gate, and the old one has all traffic again", async () => {
  await start();
  await one.tick();
  await one.turns(one.revision(2), 2, { end: "completed", firstTokenMs: 1_500 });
  await one.tick();
  expect(await weightsNow()).toEqual([{ revision: one.revision(1), percent: 100 }]);
  const events = await one.events();
  expect(events.find(({ type }) => type === "GateFailed")).toMatchObject({
    ...{ measured: { turns: 2, errors: 0, firstTokenP95Ms: 1_500 } },
    failures: [{ gate: "firstTokenP95Ms", measured: 1_500, limit: 1_000 }],
  });
  for (let i = 0; i < 4; i++) await one.tick();
  expect(await status()).toBe("serving");
  expect([...one.cluster.groups.keys()]).toEqual([`${one.revision(1)}-0`]);
});

test("a revision whose group is never ready times out", async () => {
  one.cluster.natures.set(one.revision(2), { isMute: true });
  await start();
  await one.tick();
  expect(await status()).toBe("forming");
  await one.tick(61_000);
  expect(await one.types()).toContain("RolloutRolledBack");
  for (let i = 0; i < 4; i++) await one.tick();
  expect(await status()).toBe("serving");
});

test("what the cluster refuses for good ends the rollout, with its reason", async () => {
  const refusal = new ClusterError("unknown", "There is no such revision.");
  one.cluster.natures.set(one.revision(2), { refusal });
  await start();
  await one.tick();
  const back = (await one.events()).find(({ type }) => type === "RolloutRolledBack");
  expect(back).toMatchObject({ cause: "problem" });
  expect(back).toHaveProperty("reason", expect.stringContaining("There is no such revision."));
});

test("what fails in passing is asked again by the next tick", async () => {
  const { follow } = one.cluster;
  one.cluster.follow = async () => {
    throw new ClusterError("throttled", "Too many calls.");
  };
  await start();
  const result = await one.tick();
  expect(result.models[one.model]).toHaveProperty(
    "failed",
    expect.toSatisfy((n) => n > 0),
  );
  expect(await status()).toBe("capacity");
  one.cluster.follow = follow;
  await one.tick();
  expect(await status()).toBe("canary");
});

describe("nothing happens twice", () => {
  test("where many look after the model at the same time", async () => {
    await start();
    for (let i = 0; i < 3; i++) {
      await Promise.all([one.tick(0), one.tick(0), one.tick(0), one.tick(0), one.tick(0)]);
    }
    expect(await one.types()).toEqual([
      ...["RevisionAdopted", "RolloutRequested", "RolloutStarted"],
      ...["CapacityAsked", "CapacityReady", "GroupAdded", "GroupsReady", "CanaryStepped"],
    ]);
    expect(one.cluster.groups.size).toBe(2);
  });

  test("where it ends after any write to the log, and begins again", async () => {
    await start();
    for (let i = 0; i < 20 && (await status()) !== "canary"; i++) {
      let left = 1;
      const dying = {
        ...one.deps.log,
        append: async (...args: Parameters<typeof one.deps.log.append>) => {
          if (left-- === 0) throw new Error("It is killed.");
          return one.deps.log.append(...args);
        },
      };
      await one.tick(100, { ...one.deps, log: dying }).catch(() => {});
    }
    expect(await status()).toBe("canary");
    const types = await one.types();
    expect(new Set(types).size).toBe(types.length);
  });

  test("where records of the log come late and again", async () => {
    await start();
    const commits = await stage.deps.log.read(rolloutStream(one.model));
    for (let i = 0; i < 3; i++) {
      const result = await manage(one.deps)(tableEvent([...commits].reverse()), context);
      expect(result.batchItemFailures).toEqual([]);
    }
    const ofGroup = await stage.deps.log.read(groupStream(`${one.revision(2)}-0`));
    await manage(one.deps)(tableEvent(ofGroup), context);
    expect(await status()).toBe("canary");
    const types = await one.types();
    expect(new Set(types).size).toBe(types.length);
  });
});

describe("what cannot be seen is not taken for gone", () => {
  test("a cluster that does not answer: the tick fails, and nothing is recorded", async () => {
    const before = await one.types();
    one.cluster.failure = new ClusterError("unavailable", "It does not answer.");
    await expect(one.tick(60_000)).rejects.toThrow();
    expect(await one.types()).toEqual(before);
    const commits = await one.commits();
    // A record is not given back: the clock calls again.
    const result = await manage(one.deps)(tableEvent(commits), context);
    expect(result).toEqual({ batchItemFailures: [], models: { [one.model]: "failed" } });
  });

  test("PostgreSQL: groups are looked after, and no step is judged", async () => {
    await start();
    await one.tick();
    await one.turns(one.revision(2), 2, { end: "completed" });
    const away = { query: () => Promise.reject(new Error("Connection terminated")) };
    const database = away as unknown as typeof one.deps.database;
    await one.tick(6_000, { ...one.deps, database });
    expect(await one.state()).toMatchObject({ current: { phase: "canary", step: 0 } });
    await one.tick();
    expect(await one.state()).toMatchObject({ current: { step: 1 } });
  });
});

test("weights that Redis has lost, or somebody has changed, come back", async () => {
  const { redis } = one.deps;
  await redis.del(routeKey(one.model));
  await one.tick();
  expect(await weightsNow()).toEqual([{ revision: one.revision(1), percent: 100 }]);
  const other = JSON.stringify([{ revision: "other", percent: 100 }]);
  await redis.hset(routeKey(one.model), { weights: other, version: 99 });
  await one.tick();
  expect(await weightsNow()).toEqual([{ revision: one.revision(1), percent: 100 }]);
});

test("a tick looks after every model that the log has had a rollout of", async () => {
  await one.tellAll(rolloutStream(one.model));
  const deps = { ...one.deps, models: stage.deps.models };
  const { models } = await manage(deps)({}, context).catch(() => ({ models: {} }));
  expect(Object.keys(models)).toContain(one.model);
});
