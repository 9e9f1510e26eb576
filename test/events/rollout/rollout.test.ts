import { describe, expect, test } from "vitest";
import { AxonError } from "../../../events/errors.ts";
import { upcast } from "../../../events/event-catalog.ts";
import { type RolloutCommand, rollout } from "../../../events/rollout.ts";
import type { RolloutEvent } from "../../../events/rollout-events.ts";
import { deadlineOf, type RolloutStatus, statusOf } from "../../../events/rollout-state.ts";
import { scenarios } from "../scenario.ts";
import * as told from "./histories.ts";

const { given } = scenarios(rollout);
const { history, paths, stateAfter } = told;
const following = (...commands: RolloutCommand[]) => given(...history(commands));

const late = 9_000;
const commands: Record<string, RolloutCommand> = {
  AdoptRevision: told.adopt,
  "StartRollout again": told.startRollout(late),
  "StartRollout of another": told.startRollout(late, { rolloutId: "r3", revision: "guide-3" }),
  "StartRollout to be queued": told.startRollout(late, {
    ...{ rolloutId: "r3", revision: "guide-3", whenBusy: "queue" },
  }),
  PauseRollout: told.pause(late),
  ResumeRollout: told.resume(late),
  PromoteNow: told.promoteNow(late),
  AbortRollout: told.abort(late),
  RollBack: told.rollBack(late),
  RetireRevision: told.retire(late),
  RejectRequest: told.reject,
  ReportCapacityAsked: { ...told.capacityAsked(late), groups: 2 } as RolloutCommand,
  ReportCapacityReady: told.capacityReady(late),
  ReportGroupsReady: told.groupsReady(late),
  "ReportMeasured, fine": told.measuredAs(told.fine, late),
  "ReportMeasured, bad": told.measuredAs(told.bad, late),
  "ReportMeasured, too few": told.measuredAs({ ...told.fine, turns: 3 }, late),
  ReportProblem: told.problem(late),
  CheckTimeouts: told.checkTimeouts(late),
  "DrainRevision of the old": told.drain(late, "guide-1"),
  "DrainRevision of the new": told.drain(late, "guide-2"),
  ReportRetired: told.retired(late, "guide-1"),
  "AddGroup of the old": told.addGroup(late, "guide-1-1"),
  "AddGroup of the new": told.addGroup(late, "guide-2-1"),
  "ReleaseGroup of the old": told.releaseGroup(late, "guide-1-0"),
  "ReleaseGroup of the new": told.releaseGroup(late, "guide-2-0"),
  RemoveGroup: told.removeGroup(late, "guide-1-0"),
  "RemoveGroup, failed": told.removeGroup(late, "guide-1-0", true),
};

const started = "RolloutRequested RolloutStarted";
const back = "RolloutRolledBack";
const underWay: Record<string, string> = {
  "StartRollout of another": "! rollout_busy",
  "StartRollout to be queued": "RolloutRequested",
  PauseRollout: "RolloutPaused",
  AbortRollout: back,
  RollBack: back,
  RetireRevision: "! rollout_busy",
  RejectRequest: "RequestRejected",
  ReportProblem: back,
  CheckTimeouts: `RolloutTimedOut ${back}`,
  "AddGroup of the old": "GroupAdded",
  "RemoveGroup, failed": "GroupRemoved",
};
const notUnderWay: Record<string, string> = {
  PauseRollout: "! rollout_not_found",
  ResumeRollout: "! rollout_not_found",
  PromoteNow: "! rollout_not_found",
  AbortRollout: "! rollout_not_found",
  RejectRequest: "RequestRejected",
};
const canary: Record<string, string> = {
  ...underWay,
  PromoteNow: "RolloutPromoted",
  "ReportMeasured, bad": `GateFailed ${back}`,
  "AddGroup of the new": "GroupAdded",
  "ReleaseGroup of the old": "GroupReleased",
  "ReleaseGroup of the new": "GroupReleased",
};

/** What follows: event types, or the code of a refusal. What is not named changes nothing. */
const effects: Record<RolloutStatus, Record<string, string>> = {
  none: {
    ...notUnderWay,
    AdoptRevision: "RevisionAdopted",
    "StartRollout again": started,
    "StartRollout of another": started,
    "StartRollout to be queued": started,
    RollBack: "! rollout_not_found",
    RetireRevision: "! rollout_not_found",
  },
  serving: {
    ...notUnderWay,
    "StartRollout again": started,
    "StartRollout of another": started,
    "StartRollout to be queued": started,
    RollBack: "! rollout_not_found",
    RetireRevision: "ModelWithdrawn",
    "AddGroup of the old": "GroupAdded",
    "RemoveGroup, failed": "GroupRemoved",
  },
  capacity: {
    ...underWay,
    PromoteNow: "! rollout_refused",
    ReportCapacityAsked: "CapacityAsked",
    ReportCapacityReady: "CapacityReady",
  },
  forming: {
    ...underWay,
    PromoteNow: "! rollout_refused",
    ReportGroupsReady: "GroupsReady CanaryStepped",
  },
  canary: { ...canary, "ReportMeasured, fine": "GatePassed CanaryBaked" },
  paused: {
    ...canary,
    PauseRollout: "",
    ResumeRollout: "RolloutResumed",
    CheckTimeouts: "",
  },
  draining: {
    ...notUnderWay,
    "StartRollout of another": "! rollout_busy",
    "StartRollout to be queued": "RolloutRequested",
    RollBack: started,
    CheckTimeouts: "DrainOverdue",
    "DrainRevision of the old": "RevisionDraining",
    "AddGroup of the old": "GroupAdded",
    "AddGroup of the new": "GroupAdded",
    "ReleaseGroup of the old": "GroupReleased",
    "RemoveGroup, failed": "GroupRemoved",
  },
  "rolling back": {
    ...notUnderWay,
    "StartRollout of another": "! rollout_busy",
    "StartRollout to be queued": "RolloutRequested",
    RetireRevision: "! rollout_busy",
    CheckTimeouts: "DrainOverdue",
    "DrainRevision of the new": "RevisionDraining",
    "AddGroup of the old": "GroupAdded",
    "AddGroup of the new": "GroupAdded",
    "ReleaseGroup of the new": "GroupReleased",
    "RemoveGroup, failed": "GroupRemoved",
  },
  "out of service": {
    ...notUnderWay,
    "StartRollout again": started,
    "StartRollout of another": started,
    "StartRollout to be queued": started,
    RollBack: started,
  },
};

const statuses = Object.keys(paths) as RolloutStatus[];
const pairs = statuses.flatMap((status) =>
  Object.keys(commands).map((name) => [status, name] as const),
);

/** Event types, or the code of the refusal. */
function outcomeOf(command: RolloutCommand, events: RolloutEvent[]): string {
  const state = events.reduce(rollout.evolve, rollout.initialState());
  try {
    return rollout
      .decide(command, state)
      .map(({ type }) => type)
      .join(" ");
  } catch (error) {
    if (error instanceof AxonError) return `! ${error.code}`;
    throw error;
  }
}

describe("a rollout in every state", () => {
  test.each(statuses)("is %s after its history", (status) => {
    expect(statusOf(stateAfter(...paths[status]))).toBe(status);
  });

  test.each(pairs)("%s hears %s", (status, name) => {
    const command = commands[name];
    if (command === undefined) throw new Error(name);
    expect(outcomeOf(command, history(paths[status]))).toBe(effects[status][name] ?? "");
  });

  test.each(pairs)("%s hears %s twice", (status, name) => {
    const command = commands[name];
    if (command === undefined || effects[status][name]?.startsWith("!")) return;
    const events = history([...paths[status], command]);
    // A removal and what is promoted already are refused or say nothing; nothing happens twice.
    expect(outcomeOf(command, events)).toMatch(/^$|^! /);
  });

  test.each(statuses)("writes events of the catalog while %s", (status) => {
    const events = history(paths[status]);
    expect(events.map((event) => upcast(JSON.parse(JSON.stringify(event))))).toEqual(events);
  });
});

describe("a step", () => {
  test("moves its share, and says so", () => {
    following(...told.toForming, told.addGroup(130))
      .when(told.groupsReady(200))
      .then(
        {
          ...{ type: "GroupsReady", version: 1, at: 200, model: "guide", rolloutId: "r2" },
          ...{ step: 0, groupIds: ["guide-2-0"] },
        },
        {
          ...{ type: "CanaryStepped", version: 1, at: 200, model: "guide", rolloutId: "r2" },
          ...{ step: 0, percent: 10 },
          weights: [
            { revision: "guide-1", percent: 90 },
            { revision: "guide-2", percent: 10 },
          ],
        },
      );
  });

  test("bakes for its time before it counts as passed", () => {
    following(...told.toCanary)
      .when(told.measuredAs(told.fine, 699))
      .thenNothing();
    const [passed, baked] = history([...told.toCanary, told.measuredAs(told.fine, 700)]).slice(-2);
    expect(passed).toMatchObject({ type: "GatePassed", step: 0, measured: told.fine });
    expect(baked).toMatchObject({ type: "CanaryBaked", percent: 10, bakedMs: 500 });
  });

  test("that has baked prepares the next, at the weights that it had", () => {
    const state = stateAfter(...told.toCanary, told.measuredAs(told.fine, 700));
    expect(state.current).toMatchObject({ phase: "capacity", step: 1, since: 700 });
    expect(state.weights).toContainEqual({ revision: "guide-2", percent: 10 });
  });

  test("is still judged while the next is prepared", () => {
    const events = history([
      ...told.toCanary,
      told.measuredAs(told.fine, 700),
      told.measuredAs(told.bad, 710),
    ]);
    expect(events.at(-1)).toMatchObject({ type: "RolloutRolledBack", cause: "gate" });
  });

  test("hears nothing of another step or another rollout", () => {
    following(...told.toLastStep)
      .when(told.measuredAs(told.bad, late, 0))
      .thenNothing();
    following(...told.toLastStep)
      .when(told.groupsReady(late, 0))
      .thenNothing();
    following(...told.toCanary)
      .when({ ...told.measuredAs(told.bad, late), rolloutId: "r1" } as RolloutCommand)
      .thenNothing();
    following(...told.toCanary)
      .when({ ...told.problem(late), rolloutId: "r1" } as RolloutCommand)
      .thenNothing();
  });

  test("that is the last promotes, with the reason", () => {
    const state = stateAfter(...told.toDraining);
    expect(state).toMatchObject({
      ...{ promoted: "guide-2", previous: "guide-1", current: undefined },
      weights: [{ revision: "guide-2", percent: 100 }],
      retiring: { revision: "guide-1", because: "promoted", since: 1_300 },
    });
    expect(state.past).toEqual([
      {
        ...{ rolloutId: "r2", revision: "guide-2", outcome: "promoted", startedAt: 100 },
        ...{ endedAt: 1_300, reason: "every step has baked and passed its gates" },
      },
    ]);
  });
});

describe("a gate that fails", () => {
  test("gives the traffic back and says what was measured", () => {
    const [failed, rolledBack] = history(told.toRollingBack).slice(-2);
    expect(failed).toMatchObject({
      ...{ type: "GateFailed", step: 0, measured: told.bad, baseline: null },
      failures: [{ gate: "errorRate", measured: 0.5, limit: 0.02 }],
    });
    expect(rolledBack).toMatchObject({
      ...{ type: "RolloutRolledBack", cause: "gate", by: "manager" },
      reason: "errorRate 0.5 is above 0.02",
      weights: [{ revision: "guide-1", percent: 100 }],
    });
  });

  test("pauses where it is not to roll back, and goes on measuring anew when resumed", () => {
    const careful = [
      ...[told.adopt, told.startRollout(100, { automaticRollback: false })],
      ...told.toCanary.slice(2),
    ];
    const paused = [...careful, told.measuredAs(told.bad, 300)];
    expect(history(paused).at(-1)).toMatchObject({ type: "RolloutPaused", by: "manager" });
    expect(stateAfter(...paused).weights).toHaveLength(2);
    following(...paused)
      .when(told.measuredAs(told.bad, 400))
      .thenNothing();
    const resumed = stateAfter(...paused, told.resume(1_000));
    expect(resumed.current).toMatchObject({ since: 1_000, watchedSince: 1_000, paused: undefined });
  });
});

describe("time", () => {
  test.each([
    ["capacity", paths.capacity, 100, 1_000],
    ["forming", paths.forming, 120, 2_000],
    ["canary", paths.canary, 200, 500 + 3_000],
  ] as const)("is over for %s after its limit", (phase, path, since, limitMs) => {
    following(...path)
      .when(told.checkTimeouts(since + limitMs - 1))
      .thenNothing();
    const [timedOut, rolledBack] = history([...path, told.checkTimeouts(since + limitMs)]).slice(
      -2,
    );
    expect(timedOut).toMatchObject({ type: "RolloutTimedOut", phase, limitMs });
    expect(rolledBack).toMatchObject({ type: "RolloutRolledBack", cause: "timeout" });
  });

  test("stands still in a pause, and begins anew after it", () => {
    expect(deadlineOf(stateAfter(...paths.paused))).toBeUndefined();
    expect(deadlineOf(stateAfter(...paths.paused, told.resume(8_000)))).toBe(8_000 + 3_500);
  });

  test("to drain is over once, and stops nothing", () => {
    const path = [...told.toDraining, told.checkTimeouts(1_300 + 4_000)];
    expect(history(path).at(-1)).toMatchObject({ type: "DrainOverdue", limitMs: 4_000 });
    expect(statusOf(stateAfter(...path))).toBe("draining");
    expect(deadlineOf(stateAfter(...path))).toBeUndefined();
  });
});

describe("the first rollout of a model", () => {
  const path = [told.startRollout(), ...told.toCanary.slice(2)];

  test("is promoted as soon as its groups are ready", () => {
    expect(history(path).at(-1)).toMatchObject({ type: "RolloutPromoted", from: null });
    expect(stateAfter(...path)).toMatchObject({
      ...{ promoted: "guide-2", previous: undefined, retiring: undefined },
      weights: [{ revision: "guide-2", percent: 100 }],
    });
  });

  test("leaves no weights where it is given up", () => {
    const given = stateAfter(told.startRollout(), told.abort(200));
    expect(given).toMatchObject({ promoted: undefined, weights: [] });
    expect(given.past[0]?.outcome).toBe("aborted");
  });
});

describe("the queue", () => {
  const next = told.startRollout(150, {
    ...{ rolloutId: "r3", revision: "guide-3", whenBusy: "queue" },
  });
  const gone = [
    ...[told.drain(400, "guide-2"), told.releaseGroup(410, "guide-2-0")],
    ...[told.removeGroup(420, "guide-2-0"), told.retired(500, "guide-2")],
  ];

  test("begins its first when the last group of the rollout before is gone", () => {
    const path = [...told.toRollingBack, next];
    expect(stateAfter(...path).current).toBeUndefined();
    expect(
      history([...path, ...gone])
        .slice(-2)
        .map(({ type }) => type),
    ).toEqual(["RevisionRetired", "RolloutStarted"]);
  });

  test("lets go of one that is aborted", () => {
    const path = [...told.toCanary, next, told.abort(300, "r3")];
    expect(history(path).at(-1)).toMatchObject({ type: "RolloutWithdrawn", rolloutId: "r3" });
    expect(stateAfter(...path).current?.request.rolloutId).toBe("r2");
  });

  test("passes over one that is promoted by then", () => {
    const same = told.startRollout(150, { rolloutId: "r4", whenBusy: "queue" });
    const path = [
      ...[...told.toDraining, same, told.drain(1_400, "guide-1")],
      ...[told.releaseGroup(1_410, "guide-1-0"), told.removeGroup(1_420, "guide-1-0")],
      told.retired(1_500, "guide-1"),
    ];
    expect(history(path).at(-1)).toMatchObject({ type: "RolloutWithdrawn", rolloutId: "r4" });
  });

  test("has an end", () => {
    const many = Array.from({ length: 10 }, (_, i) =>
      told.startRollout(150, {
        ...{ rolloutId: `q${i}`, revision: "guide-3", whenBusy: "queue" },
      }),
    );
    following(...told.toCanary, ...many)
      .when(next)
      .thenRefused("rollout_busy", "whenBusy");
  });
});

describe("operators", () => {
  test("are refused what serves already, and another model's stream", () => {
    following(told.adopt)
      .when(told.startRollout(100, { revision: "guide-1" }))
      .thenRefused("rollout_refused", "revision");
    following(told.adopt)
      .when(told.startRollout(100, { model: "other" }))
      .thenRefused("invalid_field", "model");
  });

  test("who name another rollout are told so", () => {
    for (const command of [told.pause(late), told.promoteNow(late), told.rollBack(late)]) {
      following(...told.toCanary)
        .when({ ...command, rolloutId: "r1" } as RolloutCommand)
        .thenRefused("rollout_not_found", "rolloutId");
    }
  });

  test("roll back after the promotion by a rollout of the revision before", () => {
    const state = stateAfter(...told.toDraining, told.rollBack(1_400));
    expect(state.retiring).toBeUndefined();
    expect(state.current).toMatchObject({ phase: "capacity", startedAt: 1_400 });
    expect(state.current?.request).toMatchObject({
      ...{ rolloutId: "back", revision: "guide-1", steps: [100], bakeMs: 0, timeouts, scale },
    });
    // Its groups that are not drained yet stay.
    expect(state.groups).toContainEqual({
      ...{ groupId: "guide-1-0", revision: "guide-1", isReleased: false },
    });
    expect(state.weights).toEqual([{ revision: "guide-2", percent: 100 }]);
  });

  test("roll back only to where the named rollout came from", () => {
    following(...told.toDraining)
      .when({ ...told.rollBack(late), rolloutId: "r1" } as RolloutCommand)
      .thenRefused("rollout_not_found", "rolloutId");
  });

  test("who roll back twice get one", () => {
    following(...told.toDraining, told.rollBack(1_400))
      .when(told.rollBack(1_500))
      .thenNothing();
  });

  test("take a model out of service and bring it back", () => {
    const out = stateAfter(...paths["out of service"]);
    expect(out).toMatchObject({ promoted: undefined, weights: [], groups: [] });
    const again = stateAfter(...paths["out of service"], told.rollBack(400));
    expect(again.current?.request.revision).toBe("guide-1");
  });
});

const { scale, timeouts } = told;

describe("groups", () => {
  test("are numbered, and a number is used once", () => {
    following(told.adopt).when(told.addGroup(100, "guide-1-0")).thenNothing();
    following(told.adopt).when(told.addGroup(100, "guide-1-2")).thenNothing();
    const path = [told.adopt, told.addGroup(100, "guide-1-1"), told.releaseGroup(110, "guide-1-1")];
    following(...path, told.removeGroup(120, "guide-1-1"))
      .when(told.addGroup(130, "guide-1-1"))
      .thenNothing();
  });

  test("are never more than the most, those on their way out included", () => {
    const full = [told.adopt, told.addGroup(100, "guide-1-1")];
    following(...full)
      .when(told.addGroup(110, "guide-1-2"))
      .thenNothing();
    following(...full, told.releaseGroup(110, "guide-1-1"))
      .when(told.addGroup(120, "guide-1-2"))
      .thenNothing();
  });

  test("are not released where they are the last with traffic, unless the model may rest", () => {
    following(told.adopt).when(told.releaseGroup(100, "guide-1-0")).thenNothing();
    const resting = { ...told.adopt, scale: { ...scale, min: 0 } } as RolloutCommand;
    following(resting)
      .when(told.releaseGroup(100, "guide-1-0"))
      .then({
        ...{ type: "GroupReleased", version: 1, at: 100, model: "guide" },
        ...{ groupId: "guide-1-0", revision: "guide-1", reason: "x" },
      });
  });

  test("that failed are counted, for the next to wait", () => {
    const failedOnce = [told.adopt, told.removeGroup(100, "guide-1-0", true)];
    expect(stateAfter(...failedOnce).revisions["guide-1"]).toMatchObject({
      ...{ failures: 1, lastFailureAt: 100 },
    });
  });

  test("of an adopted revision keep their names", () => {
    const strange = { ...told.adopt, groupIds: ["guide-1-7", "by-hand"] } as RolloutCommand;
    expect(stateAfter(strange).revisions["guide-1"]?.groupsMade).toBe(8);
  });
});

describe("a revision", () => {
  test("is retired only when it drains and its last group is gone", () => {
    following(...told.toDraining)
      .when(told.retired(late, "guide-1"))
      .thenNothing();
    const draining = [...told.toDraining, told.drain(1_400, "guide-1")];
    following(...draining)
      .when(told.retired(late, "guide-1"))
      .thenNothing();
    const gone = [told.releaseGroup(1_410, "guide-1-0"), told.removeGroup(1_420, "guide-1-0")];
    const state = stateAfter(...draining, ...gone, told.retired(1_500, "guide-1"));
    expect(statusOf(state)).toBe("serving");
    expect(state.weights).toEqual([{ revision: "guide-2", percent: 100 }]);
  });
});
