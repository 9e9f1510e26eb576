import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../local/part.ts";
import { eventually } from "../support/eventually.ts";
import { type BusyStage, busyStage, request } from "./busy-stage.ts";
import { recorded } from "./reading.ts";

/** Rollouts of a stage, while twenty clients chat all the time: no turn fails, and none notices. */

let busy: BusyStage;

beforeAll(async () => {
  const port = await freePort();
  const never = {
    ...{ AXON_TRANSPORT: "remote", AXON_LISTEN: `127.0.0.1:${port}` },
    AXON_GROUP_SECRET: "nobody-knows-this-secret",
  };
  busy = await busyStage({
    "guide-2": {},
    "guide-slow": { env: { AXON_MS_PER_TOKEN: "300" } },
    "guide-never": { ranks: 2, env: never },
  });
});

afterAll(() => busy?.stop());

test("the stage's own revision is adopted, with its group", async () => {
  const now = await eventually(async () => {
    const seen = await busy.status();
    return seen?.groups[0]?.status === "ready" && seen;
  }, 30_000);
  expect(now.status).toBe("serving");
  expect(now.promoted).toMatch(/^axon-guide-[0-9a-f]{12}$/);
  expect(now.groups.map(({ groupId }) => groupId)).toEqual([`${now.promoted}-0`]);
});

test("a canary of 10, 50 and 100 percent is promoted, whatever of it is killed", async () => {
  const own = (await busy.status())?.promoted;
  const victims: Readonly<Record<number, Parameters<BusyStage["kill"]>[0]>> = {
    10: { groupId: "guide-2-0" },
    50: "control plane",
    100: { groupId: `${own}-0` },
  };
  await busy.start("to-2", "guide-2");
  const steps = new Set<number>();
  const killed = new Set<unknown>();
  const done = await busy.ended("to-2", async ({ rollout }) => {
    if (rollout?.phase !== "canary") return;
    steps.add(rollout.percent);
    const victim = victims[rollout.percent];
    if (victim === undefined || killed.has(victim)) return;
    if (await busy.kill(victim)) killed.add(victim);
  });
  expect(done.past.outcome).toBe("promoted");
  expect([...steps]).toEqual([10, 50, 100]);
  expect([...killed]).toEqual([victims[10], victims[50], victims[100]]);
  expect(done.promoted).toBe("guide-2");
  expect(done.weights).toEqual([{ revision: "guide-2", percent: 100 }]);
  expect(done.groups.map(({ groupId }) => groupId)).toEqual(["guide-2-0"]);
  expect(await busy.running()).toEqual(["guide-2-0"]);
}, 200_000);

test("a revision that is slow fails its gate, and is rolled back", async () => {
  await busy.start("to-slow", "guide-slow");
  const done = await busy.ended("to-slow");
  expect(done.past.outcome).toBe("rolled back");
  expect(done.past.reason).toMatch(/^interTokenP95Ms \d+ is above 250$/);
  expect(done.promoted).toBe("guide-2");
  expect(done.groups.map(({ groupId }) => groupId)).toEqual(["guide-2-0"]);
}, 200_000);

test("a revision whose group is never ready is rolled back when its time is over", async () => {
  await busy.start("to-never", "guide-never", { timeouts: { ...request.timeouts, formMs: 3_000 } });
  const done = await busy.ended("to-never");
  expect(done.past.outcome).toBe("rolled back");
  expect(done.past.reason).toMatch(/3000 ms/);
  expect(done.weights).toEqual([{ revision: "guide-2", percent: 100 }]);
  expect(await busy.running()).toEqual(["guide-2-0"]);
}, 100_000);

test("no turn has failed, none has lost or repeated a token, and each of them is recorded", async () => {
  await busy.quiet();
  const { failures, readings, stage } = busy;
  expect(failures).toEqual([]);
  expect(readings.length).toBeGreaterThan(100);
  for (const { finishReason, lastSeq } of readings) {
    expect(["stop", "length"]).toContain(finishReason);
    expect(lastSeq).toBeGreaterThan(0);
  }
  const last = readings.at(-1);
  if (last === undefined) throw new Error("Nobody has read anything.");
  expect(await recorded(stage, last)).toMatchObject({ status: "completed" });
}, 60_000);
