import { describe, expect, test } from "vitest";
import { operationSchema } from "../../../events/operations.ts";
import type { RolloutStatus, SeenGroup, SeenQueue } from "../../../events/views.ts";
import {
  type Action,
  redrive,
  redriveOne,
  rolloutActions,
  rotate,
} from "../../../web/ops/actions.ts";
import { gateRows } from "../../../web/ops/gates.ts";
import { stateFields } from "../../../web/ops/state-fields.ts";

const group = (groupId: string, more: Partial<SeenGroup> = {}): SeenGroup => ({
  ...{ groupId, model: "m", revision: "m-1", status: "ready", epoch: 1, ranks: 2, slots: 16 },
  ...{ running: 3, kvUse: null, tokensPerSecond: null, beatAgeMs: 1, isAccepting: true, losses: 0 },
  ...more,
});

const queue = (name: string, deadLetters: number): SeenQueue => ({
  ...{ name, kind: "jobs", revision: name, waiting: 0, inFlight: 0, oldestJobMs: null },
  deadLetters,
});

const underWay: NonNullable<RolloutStatus["rollout"]> = {
  ...{ rolloutId: "r-1", revision: "m-2", by: "op", reason: "", phase: "canary", step: 0 },
  ...{ steps: [10, 100], percent: 10, startedAt: 0, since: 0, bakeMs: 1_000, paused: null },
};

const status = (more: Partial<RolloutStatus> = {}): RolloutStatus => ({
  ...{ model: "m", status: "canary", promoted: "m-1", previous: null, weights: [], groups: [] },
  scales: [],
  ...{ rollout: underWay, deadline: null, gates: null, retiring: null, queue: [], past: [] },
  position: null,
  ...more,
});

const named = (actions: Action[], command: string): Action => {
  const found = actions.find(({ operation }) => operation.command === command);
  if (found === undefined) throw new Error(`There is no ${command}.`);
  return found;
};

describe("actions", () => {
  test("are orders that the operator's function understands", () => {
    const all = [
      ...rolloutActions(status()),
      ...rolloutActions(
        status({ rollout: { ...underWay, paused: { at: 1, by: "", reason: "" } } }),
      ),
      ...rolloutActions(status({ rollout: null, previous: "m-0" })),
      rotate(group("g-0"), []),
      redrive("jobs", []),
      redriveOne({ queue: "jobs-m-1", kind: "jobs", messageId: "a" }),
    ];
    for (const { operation, takesReason } of all) {
      const order = takesReason ? { ...operation, reason: "because" } : operation;
      expect(operationSchema.safeParse(order).error).toBeUndefined();
    }
  });

  test("of a rollout name it, so that the one after it is not meant", () => {
    for (const { operation, hindrance } of rolloutActions(status())) {
      expect(operation).toMatchObject({ model: "m", rolloutId: "r-1" });
      expect(hindrance).toBeUndefined();
    }
  });

  test("say why there is nothing to do", () => {
    const actions = rolloutActions(status({ rollout: null }));
    expect(named(actions, "promote").hindrance).toBe("No rollout is under way.");
    expect(named(actions, "rollback").hindrance).toBe("There is no revision to go back to.");
    const back = named(rolloutActions(status({ rollout: null, previous: "m-0" })), "rollback");
    expect(back.hindrance).toBeUndefined();
    expect(back.consequences[0]).toMatch(/A rollout to m-0 starts/);
  });

  test("resume what is paused", () => {
    const paused = { ...underWay, paused: { at: 1, by: "op", reason: "" } };
    const actions = rolloutActions(status({ rollout: paused }));
    expect(actions.map(({ operation }) => operation.command)).toEqual([
      ...["promote", "resume", "abort", "rollback"],
    ]);
  });

  test("rotate a group only while another one serves its revision", () => {
    const alone = group("g-0");
    expect(rotate(alone, [alone, group("g-1", { revision: "other" })]).hindrance).toMatch(
      /No other/,
    );
    expect(rotate(alone, [alone, group("g-1", { isAccepting: false })]).hindrance).toMatch(
      /No other/,
    );
    expect(rotate(alone, [alone, group("g-1")]).hindrance).toBeUndefined();
    expect(rotate(group("g-0", { status: "silent" }), [group("g-1")]).hindrance).toMatch(/silent/);
  });

  test("redrive the dead letters of all queues of a kind", () => {
    const action = redrive("jobs", [queue("a", 2), queue("b", 1)]);
    expect(action.consequences[0]).toMatch(/^3 jobs that were given up/);
    expect(redrive("jobs", [queue("a", 1)]).consequences[0]).toMatch(/^1 job that was given up/);
    expect(redrive("reports", [queue("a", 2)]).hindrance).toBe("There are no dead reports.");
  });
});

describe("gates", () => {
  const limits = {
    ...{ minimumTurns: 10, errorRate: 0.02, firstTokenP95Ms: 1_000, interTokenP95Ms: null },
    slowdown: 1.5,
  };
  const measured = (revision: string, turns: number, firstTokenP95Ms: number | null) => ({
    ...{ revision, turns, errors: 1, firstTokenP95Ms, interTokenP95Ms: 20 },
  });
  const rows = (turns: number, firstTokenP95Ms: number | null) =>
    gateRows(
      {
        limits,
        measured: [measured("m-2", turns, firstTokenP95Ms), measured("m-1", 100, 200)],
        lagMs: null,
      },
      "m-2",
    );

  test("show each limit beside both revisions", () => {
    expect(rows(100, 290)).toMatchObject([
      { gate: "Turns that have ended", candidate: "100", verdict: { tone: "good" } },
      { gate: "Failed turns", candidate: "1 %", promoted: "1 %", verdict: { tone: "good" } },
      { limit: "at most 1 s and at most 1.5 × the other's", verdict: { tone: "good" } },
      { limit: "at most 1.5 × the other's", candidate: "20 ms", verdict: { tone: "good" } },
    ]);
  });

  test("are above their limit by the lower of the two bounds", () => {
    expect(rows(100, 301)[2]?.verdict).toEqual({ tone: "danger", text: "above the limit" });
    expect(rows(5, 301)[2]?.verdict.tone).toBe("warn");
  });

  test("do not claim to have passed what is not known", () => {
    expect(rows(5, null).map(({ verdict }) => verdict.tone)).toEqual([
      ...["quiet", "warn", "quiet", "quiet"],
    ]);
    expect(gateRows({ limits, measured: null, lagMs: null }, "m-2")[0]).toMatchObject({
      candidate: "–",
    });
  });

  test("that were taken away are not shown", () => {
    const none = { ...limits, errorRate: null, firstTokenP95Ms: null, slowdown: null };
    expect(gateRows({ limits: none, measured: [], lagMs: null }, "m-2")).toHaveLength(1);
  });
});

test("a folded state tells what the last commit has made of it", () => {
  const after = { status: "running", epoch: 2, runs: [1], text: "x" };
  const before = { status: "requested", epoch: 2, runs: [1], old: true };
  expect(stateFields(after, before)).toEqual([
    { name: "status", value: "running", change: "changed" },
    { name: "text", value: "x", change: "added" },
    { name: "old", value: null, change: "removed" },
    { name: "epoch", value: 2, change: undefined },
    { name: "runs", value: [1], change: undefined },
  ]);
  expect(stateFields(after, undefined).every(({ change }) => change === undefined)).toBe(true);
});
