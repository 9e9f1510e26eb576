import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { fold } from "../../events/decider.ts";
import { rollout } from "../../events/rollout.ts";
import type { OpsAnswer } from "../../functions/lib/operations/run-operation.ts";
import { rollouts } from "../../functions/lib/streams.ts";
import { ops } from "../../functions/ops.ts";
import { RolloutStage } from "./rollout-stage.ts";
import { context, type Stage } from "./stage.ts";

let stage: Stage;
let fresh: () => RolloutStage;
let one: RolloutStage;
beforeAll(async () => {
  ({ stage, fresh } = await RolloutStage.start());
});
afterAll(() => stage.close());
beforeEach(() => {
  one = fresh();
});

/** @throws where it was refused. */
function good(answer: OpsAnswer): Extract<OpsAnswer, { ok: true; status: unknown }> {
  if (answer.ok && "status" in answer) return answer;
  throw new Error(JSON.stringify(answer));
}

const start = (more: Record<string, unknown> = {}) =>
  one.ask("start", { revision: one.revision(2), rolloutId: "r2", by: "ann", ...more });

describe("commands", () => {
  test("a start is answered with the state that has come of it", async () => {
    await one.adopt();
    const { status, ...answer } = good(await start({ steps: [20, 100], reason: "to try" }));
    expect(answer).toMatchObject({
      recorded: [{ type: "RolloutRequested" }, { type: "RolloutStarted" }],
    });
    expect(status).toMatchObject({
      ...{ status: "capacity", promoted: one.revision(1) },
      weights: [{ revision: one.revision(1), percent: 100 }],
      rollout: { rolloutId: "r2", by: "ann", reason: "to try", steps: [20, 100], percent: 0 },
      gates: { limits: { minimumTurns: 50 }, measured: [], judged: null },
    });
  });

  test("scale changes how many groups serve, without a rollout", async () => {
    await one.adopt();
    const answer = good(await one.ask("scale", { min: 2, max: 3, by: "ann", reason: "a fair" }));
    expect(answer.recorded).toMatchObject([
      { type: "RevisionScaled", scale: { min: 2, max: 3 }, by: "ann", reason: "a fair" },
    ]);
    await one.tick();
    expect([...one.cluster.groups.keys()]).toEqual([0, 1].map((n) => `${one.revision(1)}-${n}`));
    expect(await one.ask("scale", { min: 4 })).toMatchObject({
      ok: false,
      error: { code: "invalid_field", field: "min" },
    });
    expect(await one.ask("scale", { most: 4 })).toMatchObject({
      ok: false,
      error: { code: "invalid_field", field: "most" },
    });
  });

  test("asked again with its name it changes nothing more", async () => {
    await one.adopt();
    await start();
    const before = await one.commits();
    expect(good(await start())).toMatchObject({ recorded: [] });
    expect(await one.commits()).toEqual(before);
  });

  test("without a name it is named by the invocation, which Lambda's retries keep", async () => {
    await one.adopt();
    const payload = { command: "start", model: one.model, revision: one.revision(2) };
    const invocation = { ...context, awsRequestId: randomUUID() };
    for (let i = 0; i < 2; i++) good(await ops(one.deps)(payload, invocation));
    const requests = (await one.types()).filter((type) => type === "RolloutRequested");
    expect(requests).toHaveLength(1);
    expect((await one.state()).current?.request).toMatchObject({
      ...{ rolloutId: `ops-${invocation.awsRequestId}`, by: "operator" },
    });
  });

  test("each does what it says", async () => {
    await one.adopt();
    await start();
    expect(good(await one.ask("pause", { reason: "lunch" })).status).toMatchObject({
      ...{ status: "paused", rollout: { paused: { by: "operator", reason: "lunch" } } },
    });
    expect(good(await one.ask("resume")).status.status).toBe("capacity");
    await one.tick();
    expect(good(await one.ask("promote")).status).toMatchObject({
      ...{ status: "draining", promoted: one.revision(2), previous: one.revision(1) },
    });
    expect(good(await one.ask("rollback", { returnId: "back" })).status).toMatchObject({
      rollout: { rolloutId: "back", revision: one.revision(1), steps: [100] },
    });
    expect(good(await one.ask("abort")).status).toMatchObject({ status: "rolling back" });
    for (let i = 0; i < 4; i++) await one.tick();
    const { status } = good(await one.ask("retire", { revision: one.revision(2) }));
    expect(status).toMatchObject({ status: "draining", promoted: null, weights: [] });
    expect(status.past.map(({ rolloutId, outcome }) => [rolloutId, outcome])).toEqual([
      ["r2", "promoted"],
      ["back", "aborted"],
    ]);
  });

  test("adopt does nothing where the log knows the model", async () => {
    await one.adopt();
    const again = { revision: one.revision(2), groupIds: [] };
    expect(good(await one.ask("adopt", again))).toMatchObject({
      ...{ recorded: [], status: { promoted: one.revision(1) } },
    });
  });

  test("what is decided on an older state is decided again", async () => {
    await one.adopt();
    const asked = await Promise.all([start(), start({ rolloutId: "r3" })]);
    expect(asked.filter(({ ok }) => ok)).toHaveLength(1);
    expect(asked.find(({ ok }) => !ok)).toMatchObject({ error: { code: "rollout_busy" } });
  });
});

describe("a refusal says what to do", () => {
  test.each([
    [{}, "command", /must be one of observe, start, pause/],
    [{ command: "launch" }, "command", /not "launch"/],
    [{ command: "start", revision: "a/b" }, "revision", /letters, digits/],
    [{ command: "start", revision: "b", steps: [50, 20] }, "steps", /above the one before/],
    [{ command: "start", revision: "b", gate: {} }, "gate", /leave it out/],
    [{ command: "status", at: "yesterday" }, "at", /./],
    [null, "", /must be one of/],
  ])("%j", async (payload, field, message) => {
    const answer = await ops(one.deps)(payload, context);
    expect(answer).toEqual({
      ok: false,
      error: {
        ...{ code: "invalid_field", field, retryable: false },
        message: expect.stringMatching(message),
      },
    });
  });

  test("no rollout is under way", async () => {
    await one.adopt();
    expect(await one.ask("pause")).toMatchObject({
      ...{ ok: false, error: { code: "rollout_not_found", retryable: false } },
    });
  });

  test("a store is away", async () => {
    const log = { ...one.deps.log, read: () => Promise.reject(new Error("Connection is closed")) };
    const answer = await ops({ ...one.deps, log })({ command: "status" }, context);
    expect(answer).toMatchObject({ ok: false, error: { code: "unavailable", retryable: true } });
  });
});

test("help is the schema of the payload", async () => {
  const answer = await ops(one.deps)({ command: "help" }, context);
  const schema = (answer as { schema: { oneOf: { properties: object }[] } }).schema;
  expect(schema.oneOf.length).toBeGreaterThan(10);
  expect(schema.oneOf[0]?.properties).toHaveProperty("steps.default", [10, 50, 100]);
});

describe("the past", () => {
  test("status at any position is the fold of the log up to there", async () => {
    await one.adopt();
    await start({ gates: { minimumTurns: 0 }, bakeMs: 0, steps: [10, 100] });
    for (let i = 0; i < 6; i++) await one.tick();
    const commits = await one.commits();
    expect(commits.length).toBeGreaterThan(10);
    for (const [i, { position }] of commits.entries()) {
      const events = commits.slice(0, i + 1).flatMap((commit) => commit.events);
      const state = fold(rollout, events.filter(rollouts.isOwn));
      const { status } = good(await one.ask("status", { position }));
      const { promoted = null } = state;
      expect(status).toMatchObject({ weights: state.weights, promoted, version: i + 1, position });
    }
  });

  test("status at a time shows groups and gates as they were", async () => {
    await one.adopt();
    await start({ gates: { minimumTurns: 3 }, bakeMs: 0 });
    await one.tick();
    await one.turns(one.revision(2), 2, { end: "completed", firstTokenMs: 70 });
    // Positions are of the clock of the writer, which the test does not move.
    const before = Date.now();
    await new Promise((resolve) => setTimeout(resolve, 5));
    await one.ask("abort", { reason: "enough" });
    expect(good(await one.ask("status")).status).toMatchObject({ status: "rolling back" });
    const past = good(await one.ask("status", { at: before })).status;
    expect(past).toMatchObject({
      ...{ status: "canary", rollout: { percent: 10 } },
      weights: [{ percent: 90 }, { percent: 10 }],
      groups: [{ status: "ready" }, { status: "ready" }],
    });
    expect(good(await one.ask("status", { at: 1_000 })).status).toMatchObject({
      ...{ status: "none", weights: [], groups: [], version: 0, position: null },
    });
  });

  test("history has the events of the model and of its groups in the order of writing", async () => {
    await one.adopt();
    await start();
    await one.tick();
    const { history = [] } = good(await one.ask("history"));
    const types = history.map(({ event }) => event.type);
    expect(types.slice(0, 3)).toEqual(["RevisionAdopted", "GroupRequested", "GroupReady"]);
    expect(types).toContain("CanaryStepped");
    expect(history.map(({ position }) => position)).toEqual(
      history.map(({ position }) => position).sort(),
    );
    expect(good(await one.ask("history", { limit: 2 })).history).toEqual(history.slice(-2));
  });

  test("a turn's revision, groups and the weights at its time", async () => {
    await one.adopt();
    const turnId = await one.turn(one.revision(1), { end: "completed" });
    await start();
    await one.tick();
    const answer = await one.ask("turn", { turnId });
    expect(answer).toEqual({
      ok: true,
      turn: {
        ...{ turnId, status: "completed", model: one.model, revision: one.revision(1) },
        requestedAt: expect.any(Number),
        runs: [
          {
            ...{ groupId: `${one.revision(1)}-0`, leaderId: "leader", epoch: 1, emittedTokens: 0 },
            at: expect.any(Number),
          },
        ],
        weights: [{ revision: one.revision(1), percent: 100 }],
        rolloutId: null,
      },
    });
    expect(JSON.stringify(answer)).not.toContain("Is it?");
    expect(await one.ask("turn", { turnId: "turn_x" })).toMatchObject({
      error: { code: "turn_not_found", field: "turnId" },
    });
  });
});
