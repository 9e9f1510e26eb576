import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ops } from "../../functions/ops.ts";
import { RolloutStage } from "../functions/rollout-stage.ts";
import type { Stage } from "../functions/stage.ts";
import { type InvokedStage, invokedStage, type Ran, runAxon } from "../support/axon-command.ts";

/** `axon rollout` and its like as processes of their own, against the function `ops` over Lambda's API. */

let stage: Stage;
let fresh: () => RolloutStage;
let one: RolloutStage;
let invoked: InvokedStage;

beforeAll(async () => {
  ({ stage, fresh } = await RolloutStage.start());
  invoked = await invokedStage({ ops: (event, context) => ops(one.deps)(event, context) });
});
afterAll(async () => {
  await invoked.stop();
  await stage.close();
});
beforeEach(async () => {
  one = fresh();
  await one.adopt();
});

function axon(...words: string[]): Promise<Ran> {
  const model = words[0] === "turn" ? [] : ["--model", one.model];
  return runAxon([...words, ...model], { AXON_DATA: invoked.folder });
}

const lastOf = ({ stdout }: Ran): unknown => JSON.parse(stdout.trim().split("\n").at(-1) ?? "");

test("start and status show where the traffic goes", async () => {
  const request = join(invoked.folder, "request.json");
  writeFileSync(request, JSON.stringify({ gates: { minimumTurns: 7 }, timeouts: { settleMs: 0 } }));
  const started = await axon(
    ...["rollout", "start", one.revision(2), "--steps", "25,100", "--bake", "90s"],
    ...["--id", "r2", "--request", request, "--reason", "a better one"],
  );
  expect(started.stderr).toBe("");
  expect(started.code).toBe(0);
  expect((await one.state()).current?.request).toMatchObject({
    ...{ rolloutId: "r2", steps: [25, 100], bakeMs: 90_000, reason: "a better one" },
    ...{ gates: { minimumTurns: 7, errorRate: 0.02 }, by: expect.stringContaining("@") },
  });
  await one.tick();
  await one.turns(one.revision(2), 3, { end: "completed" });
  const { stdout } = await axon("rollout", "status");
  expect(stdout).toContain(`traffic    ${one.revision(1)} 75 %, ${one.revision(2)} 25 %`);
  expect(stdout).toContain("step 1 of 2 (25 % now), canary since");
  expect(stdout).toContain(`${one.revision(2)}: 3 of 7 turns; errors 0 of 2 %`);
  expect(stdout).toMatch(new RegExp(`${one.revision(2)}-0 +ready +4 slots`));
});

test("each command reaches the rollout", async () => {
  await axon("rollout", "start", one.revision(2), "--id", "r2");
  for (const [command, status] of [
    ["pause", "paused"],
    ["resume", "capacity"],
    ["abort", "rolling back"],
  ] as const) {
    expect(lastOf(await axon("rollout", command, "--json"))).toMatchObject({ status });
  }
  const refused = await axon("rollout", "promote");
  expect(refused).toMatchObject({ code: 1, stdout: "" });
  expect(refused.stderr).toMatch(/^axon: No rollout of .* is under way\.\n$/);
});

test("scale changes what it names, and status shows it", async () => {
  const scaled = await axon(
    ...["rollout", "scale", "--min", "0", "--max", "3", "--busy", "0.5", "--zero-after", "30m"],
    ...["--reason", "nights are quiet"],
  );
  expect(scaled).toMatchObject({ code: 0, stderr: "" });
  const revision = one.revision(1);
  expect(scaled.stdout).toContain(
    `scale      ${revision}: 0 to 3 groups for 50 % of the slots busy, 2000 ms of waiting, none after 1800 s`,
  );
  expect((await one.state()).revisions[revision]?.scale).toMatchObject({
    ...{ min: 0, max: 3, zeroAfterMs: 1_800_000 },
    target: { busySlots: 0.5, queueWaitMs: 2_000 },
  });
  await axon("rollout", "scale", revision, "--zero-after", "never", "--queue-wait", "5s");
  expect((await one.state()).revisions[revision]?.scale).toMatchObject({
    ...{ min: 0, max: 3, zeroAfterMs: null },
    target: { busySlots: 0.5, queueWaitMs: 5_000 },
  });
  const refused = await axon("rollout", "scale", "--max", "many");
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringMatching(/max/) });
});

test("status says when the gates see turns late", async () => {
  await axon("rollout", "start", one.revision(2), "--id", "r2");
  await one.tick();
  one.time += 60_000;
  const late = await axon("rollout", "status");
  expect(late.stdout).toMatch(/seen \d\d s late: the projection lags/);
  await one.tellAll(`rollout/${one.model}`);
  const told = await axon("rollout", "status");
  expect(told.stdout).not.toContain("late: the projection");
});

test("--wait shows the decisions as they come, and ends with the rollout", async () => {
  const waiting = axon("rollout", "start", one.revision(2), "--id", "r2", "--wait");
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if ((await one.state()).current !== undefined) break;
  }
  await one.ask("abort", { reason: "not today" });
  const { code, stdout } = await waiting;
  expect(code).toBe(1);
  expect(stdout).toMatch(/RolloutStarted .*\n(.*\n)*.*RolloutRolledBack .*not today/);
});

describe("the past", () => {
  test("history, and the log replayed up to a position and to a time", async () => {
    await axon("rollout", "start", one.revision(2), "--id", "r2");
    await one.tick();
    const commits = await one.commits();
    const adopted = commits[0]?.position ?? "";
    const then = await axon("log", "replay", "--until", adopted, "--json");
    expect(lastOf(then)).toMatchObject({
      ...{ status: "serving", version: 1, weights: [{ revision: one.revision(1), percent: 100 }] },
    });
    const now = await axon("log", "replay", "--until", new Date(Date.now() + 1_000).toISOString());
    expect(now.stdout).toMatch(/CanaryStepped .*weights=\[.* 90 %, .* 10 %\]/);
    expect(now.stdout).toContain(`${one.model}: canary`);
    const history = await axon("rollout", "history", "--limit", "3");
    expect(history.stdout.split("\n")).toHaveLength(4);
    expect(now.stdout).toContain(history.stdout);
    const before = await axon("rollout", "status", "--at", "1h");
    expect(before.stdout).toContain(`${one.model}: none`);
  });

  test("which revision and group produced a turn", async () => {
    const turnId = await one.turn(one.revision(1), { end: "completed" });
    const { stdout } = await axon("turn", turnId);
    expect(stdout).toContain(`turn/${turnId}: completed\n`);
    expect(stdout).toContain(`revision   ${one.revision(1)} of ${one.model}`);
    expect(stdout).toContain(`group      ${one.revision(1)}-0 (leader)`);
  });
});

test.each([
  [["rollout", "start"], /Name the revision/],
  [["rollout", "launch"], /no "axon rollout launch"/],
  [["rollout", "status", "--at", "soon"], /--at takes a time .* not "soon"/],
  [["rollout", "start", "x", "--bake", "long"], /--bake takes a duration/],
  [["log", "replay"], /Say until when/],
])("%j cannot be understood", async (args, message) => {
  const { code, stderr } = await axon(...args);
  expect(stderr).toMatch(message);
  expect(code).toBe(2);
});
