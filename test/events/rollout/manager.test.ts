import { describe, expect, test } from "vitest";
import type {
  ClusterCommand,
  Heartbeat,
  Observed,
  ObservedGroup,
  ObservedLoad,
} from "../../../events/cluster-port.ts";
import { fold } from "../../../events/decider.ts";
import { type GroupCommand, type GroupState, group } from "../../../events/group.ts";
import type { GroupEvent } from "../../../events/group-events.ts";
import type { RolloutCommand } from "../../../events/rollout.ts";
import { type ManagerActions, manage, measurementsOf } from "../../../events/rollout-manager.ts";
import type { RolloutState } from "../../../events/rollout-state.ts";
import type { ManagerInput } from "../../../events/rollout-view.ts";
import * as told from "./histories.ts";

const { model, stateAfter } = told;
/** Within all timeouts of the histories. */
const now = 1_000;

const heartbeat = (change: Partial<Heartbeat> = {}): Heartbeat => ({
  ...{ at: now, epoch: 1, ranks: 2, slots: 8, running: 0, isAccepting: true },
  ...change,
});
const shown = (groupId: string, change: Partial<ObservedGroup> = {}): ObservedGroup => ({
  ...{ groupId, revision: groupId.slice(0, -2), exists: true, isDraining: false },
  ...{ failure: undefined, heartbeat: heartbeat(), ...change },
});
const idle: ObservedLoad = {
  ...{ openTurns: 0, waitingTurns: 0, queueWaitMs: 0, lastTurnAt: undefined },
};

const lives = {
  forming: ["GroupRequested"],
  ready: ["GroupRequested", "GroupReady"],
  draining: ["GroupRequested", "GroupReady", "GroupDraining"],
  failed: ["GroupRequested", "GroupFailed"],
  failedAndGone: ["GroupRequested", "GroupFailed", "GroupGone"],
  gone: ["GroupRequested", "GroupReady", "GroupDraining", "GroupGone"],
} as const;

function groupAs(groupId: string, life: keyof typeof lives): GroupState {
  const facts = {
    ...{ version: 1, at: 200, groupId, model, revision: groupId.slice(0, -2), formMs: 2_000 },
    ...{ epoch: 1, ranks: 2, slots: 8, cause: "cluster", reason: "no image" },
  };
  return fold(
    group,
    lives[life].map((type) => ({ type, ...facts }) as GroupEvent),
  );
}

/** All is as the log wants it, but for what is said. */
function input(
  state: RolloutState,
  groups: Record<string, keyof typeof lives>,
  change: Partial<Observed> & { now?: number } = {},
): ManagerInput {
  const { now: at = now, ...observed } = change;
  const known = Object.entries(groups).map(([id, life]) => [id, groupAs(id, life)] as const);
  const revisions = Object.keys(state.revisions);
  const countOf = (revision: string) =>
    state.groups.filter((member) => member.revision === revision).length;
  return {
    state,
    version: 7,
    groups: new Map(known),
    now: at,
    observed: {
      at,
      groups: Object.keys(groups).map((id) => shown(id, { heartbeat: heartbeat({ at }) })),
      capacity: Object.fromEntries(
        revisions.map((revision) => {
          const there = Math.max(1, countOf(revision));
          return [revision, { asked: there, there, failure: undefined }];
        }),
      ),
      load: Object.fromEntries(revisions.map((revision) => [revision, idle])),
      measured: {},
      weights: { weights: state.weights, version: state.weightsVersion, setAt: 0 },
      ...observed,
    },
  };
}

const types = (commands: readonly { type: string }[]) => commands.map(({ type }) => type);
const said = ({ rollout, groups, cluster }: ManagerActions) => [
  ...types(rollout),
  ...types(groups),
  ...types(cluster),
];

const serving = stateAfter(told.adopt);
const old = { "guide-1-0": "ready" } as const;
const both = { ...old, "guide-2-0": "ready" } as const;

describe("where all is as it should be", () => {
  test("nothing is said", () => {
    expect(said(manage(input(serving, old)))).toEqual([]);
    expect(said(manage(input(stateAfter(...told.toCanary), both)))).toEqual([]);
  });

  test("nothing is said of a model that the log does not know, whatever is there", () => {
    const unknown = input(stateAfter(), {}, { groups: [shown("guide-1-0")] });
    expect(said(manage(unknown))).toEqual([]);
  });
});

describe("a group", () => {
  const lifeOf = (
    life: keyof typeof lives,
    there: Partial<ObservedGroup> | undefined,
    change: { now?: number } = {},
  ) => {
    const groups = there === undefined ? [] : [shown("guide-1-0", there)];
    return manage(input(serving, { "guide-1-0": life }, { groups, ...change }));
  };

  test("that was added is asked for, with its revision's time to form", () => {
    const { groups, cluster } = manage(input(serving, {}, { groups: [] }));
    expect(groups).toEqual<GroupCommand[]>([
      {
        ...{ type: "RequestGroup", at: now, groupId: "guide-1-0", model, revision: "guide-1" },
        formMs: 2_000,
      },
    ]);
    expect(cluster).toEqual([]);
  });

  test("that forms is created until the cluster has it", () => {
    const create: ClusterCommand = {
      ...{ type: "CreateGroup", model, revision: "guide-1", groupId: "guide-1-0" },
    };
    expect(lifeOf("forming", undefined).cluster).toEqual([create]);
    expect(said(lifeOf("forming", { heartbeat: undefined }))).toEqual([]);
  });

  test("that forms is ready by its heartbeat, if it takes turns", () => {
    expect(lifeOf("forming", {}).groups).toEqual<GroupCommand[]>([
      {
        ...{ type: "ReportReady", at: now, groupId: "guide-1-0", epoch: 1, ranks: 2, slots: 8 },
      },
    ]);
    const deaf = { heartbeat: heartbeat({ isAccepting: false }) };
    expect(said(lifeOf("forming", deaf))).toEqual([]);
  });

  test("that forms fails by the cluster's word, or by the time", () => {
    const broken = { heartbeat: undefined, failure: "no image" };
    expect(types(lifeOf("forming", broken).groups)).toEqual(["ReportFailed"]);
    const silent = { heartbeat: undefined };
    expect(types(lifeOf("forming", silent, { now: 2_199 }).groups)).toEqual([]);
    expect(types(lifeOf("forming", silent, { now: 2_200 }).groups)).toEqual(["CheckForming"]);
  });

  test("that is ready is lost when it was silent for ten seconds", () => {
    const at = 20_000;
    const since = (ms: number) => ({ heartbeat: heartbeat({ at: at - ms }) });
    expect(types(lifeOf("ready", since(10_000), { now: at }).groups)).toEqual([]);
    expect(lifeOf("ready", since(10_001), { now: at }).groups).toEqual<GroupCommand[]>([
      {
        ...{ type: "ReportLost", at, groupId: "guide-1-0", epoch: 1 },
        reason: "silent for 10001 ms",
      },
    ]);
    expect(types(lifeOf("ready", undefined).groups)).toEqual(["ReportLost"]);
  });

  test("that is ready and was started again is told by its epoch", () => {
    const again = { heartbeat: heartbeat({ epoch: 2 }) };
    expect(types(lifeOf("ready", again).groups)).toEqual(["ReportReady"]);
  });

  test.each(["draining", "failed"] as const)(
    "that is %s runs out, and only then is deleted",
    (life) => {
      const ends = (there: Partial<ObservedGroup>) => types(lifeOf(life, there).cluster);
      const deaf = (running: number) => heartbeat({ isAccepting: false, running });
      expect(ends({})).toEqual(["DrainGroup"]);
      // It was told, and has not heard yet.
      expect(ends({ isDraining: true })).toEqual(["DrainGroup"]);
      expect(ends({ isDraining: true, heartbeat: deaf(1) })).toEqual([]);
      expect(ends({ isDraining: true, heartbeat: deaf(0) })).toEqual(["DeleteGroup"]);
      // One that is silent may be about to start.
      expect(ends({ heartbeat: undefined })).toEqual(["DrainGroup"]);
      expect(ends({ isDraining: true, heartbeat: undefined })).toEqual(["DeleteGroup"]);
      expect(types(lifeOf(life, undefined).groups)).toEqual(["ReportGone"]);
      expect(types(lifeOf(life, { exists: false }).groups)).toEqual([]);
    },
  );

  test("that failed is forgotten when it is gone, and followed by another after a while", () => {
    const state = stateAfter(told.adopt, told.addGroup(100, "guide-1-1"));
    const ended = { ...old, "guide-1-1": "failedAndGone" } as const;
    const groups = [shown("guide-1-0")];
    expect(manage(input(state, ended, { groups })).rollout).toEqual<RolloutCommand[]>([
      {
        ...{ type: "RemoveGroup", at: now, model, groupId: "guide-1-1", revision: "guide-1" },
        ...{ reason: "no image", failed: true },
      },
    ]);
    const removed = stateAfter(told.adopt, told.removeGroup(500, "guide-1-0", true));
    const adds = (at: number) => types(manage(input(removed, {}, { now: at })).rollout);
    expect(adds(500 + 29_999)).toEqual([]);
    expect(adds(500 + 30_000)).toEqual(["AddGroup"]);
  });

  test("that nobody asked for is drained, and deleted when it runs nothing", () => {
    const strays = (there: Partial<ObservedGroup>) =>
      manage(
        input(serving, old, { groups: [shown("guide-1-0"), shown("guide-1-9", there)] }),
      ).cluster.filter((command) => command.type !== "EnsureCapacity");
    expect(strays({})).toEqual([
      { type: "DrainGroup", model, revision: "guide-1", groupId: "guide-1-9" },
    ]);
    const deaf = heartbeat({ isAccepting: false });
    expect(types(strays({ isDraining: true, heartbeat: deaf }))).toEqual(["DeleteGroup"]);
    expect(strays({ exists: false, heartbeat: undefined })).toEqual([]);
  });
});

describe("weights", () => {
  const set = (weights: Observed["weights"]) => manage(input(serving, old, { weights })).cluster;
  const desired = [{ revision: "guide-1", percent: 100 }];

  test("are set where they are missing, others, or older", () => {
    const command: ClusterCommand = { type: "SetWeights", model, weights: desired, version: 1 };
    expect(set(undefined)).toEqual([command]);
    expect(set({ weights: [{ revision: "x", percent: 100 }], version: 1, setAt: 0 })).toEqual([
      command,
    ]);
    expect(set({ weights: desired, version: 0, setAt: 0 })).toEqual([command]);
  });

  test("that were set by hand with a higher version are set again with that", () => {
    const byHand = { weights: [{ revision: "x", percent: 100 }], version: 9, setAt: 0 };
    expect(set(byHand)).toEqual([{ type: "SetWeights", model, weights: desired, version: 9 }]);
    expect(set({ weights: desired, version: 9, setAt: 0 })).toEqual([]);
  });
});

describe("capacity", () => {
  const ensure = (asked: number, groups?: ObservedGroup[]) =>
    manage(
      input(serving, old, {
        capacity: { "guide-1": { asked, there: asked, failure: undefined } },
        ...(groups === undefined ? {} : { groups }),
      }),
    ).cluster.filter((command) => command.type === "EnsureCapacity");

  test("is that of the groups, those on their way out and strays included", () => {
    expect(ensure(1)).toEqual([]);
    const command = { type: "EnsureCapacity", model, revision: "guide-1", basis: 7 } as const;
    expect(ensure(0)).toEqual([{ ...command, groups: 1 }]);
    expect(ensure(2)).toEqual([{ ...command, groups: 1 }]);
    expect(ensure(1, [shown("guide-1-0"), shown("guide-1-9")])).toEqual([
      { ...command, groups: 2 },
    ]);
  });
});

describe("a rollout", () => {
  const capacityOf = (there: number, failure?: string) => ({
    "guide-1": { asked: 1, there: 1, failure: undefined },
    "guide-2": { asked: 1, there, failure },
  });
  const capacity = [told.adopt, told.startRollout()];

  test("asks for the machines of its first step, and then says that they are there", () => {
    const asks = manage(input(stateAfter(...capacity), old, { capacity: {} }));
    expect(asks.rollout).toEqual<RolloutCommand[]>([
      {
        ...{ type: "ReportCapacityAsked", at: now, model },
        ...{ rolloutId: "r2", step: 0 },
        groups: 1,
      },
    ]);
    expect(asks.cluster).toContainEqual({
      ...{ type: "EnsureCapacity", model, revision: "guide-2", groups: 1, basis: 7 },
    });
    const asked = stateAfter(...capacity, told.capacityAsked(110));
    const reports = (there: number) =>
      types(manage(input(asked, old, { capacity: capacityOf(there) })).rollout);
    expect(reports(0)).toEqual([]);
    expect(reports(1)).toEqual(["ReportCapacityReady"]);
  });

  test("ends where there will be no machines", () => {
    const asked = stateAfter(...capacity, told.capacityAsked(110));
    const none = capacityOf(0, "VcpuLimitExceeded");
    expect(manage(input(asked, old, { capacity: none })).rollout).toMatchObject([
      { type: "ReportProblem", reason: "there are no machines: VcpuLimitExceeded" },
    ]);
  });

  test("adds the groups of its step, and steps when they take turns", () => {
    const forming = stateAfter(...told.toForming);
    expect(types(manage(input(forming, old)).rollout)).toEqual(["AddGroup"]);
    const added = stateAfter(...told.toForming, told.addGroup(130));
    const whenSecondIs = (life: keyof typeof lives, there: Partial<ObservedGroup> = {}) => {
      const groups = [shown("guide-1-0"), shown("guide-2-0", there)];
      return types(manage(input(added, { ...old, "guide-2-0": life }, { groups })).rollout);
    };
    expect(whenSecondIs("forming")).toEqual([]);
    expect(whenSecondIs("ready", { heartbeat: undefined })).toEqual([]);
    expect(whenSecondIs("ready", { heartbeat: heartbeat({ epoch: 9 }) })).toEqual([]);
    expect(whenSecondIs("ready")).toEqual(["ReportGroupsReady"]);
  });

  test("needs its share of the groups that serve", () => {
    const wide = { ...told.adopt, groupIds: ["guide-1-0", "guide-1-1"] } as RolloutCommand;
    const path = [wide, ...told.toCanary.slice(1), told.measuredAs(told.fine, 700)];
    const lives = { ...both, "guide-1-1": "ready" } as const;
    expect(manage(input(stateAfter(...path), lives)).rollout).toMatchObject([
      { type: "ReportCapacityAsked", step: 1, groups: 2 },
    ]);
  });

  test("is measured by its own step's turns", () => {
    const state = stateAfter(...told.toCanary);
    expect(measurementsOf(state)).toEqual([
      { revision: "guide-2", since: 200 },
      { revision: "guide-1", since: 200 },
    ]);
    expect(measurementsOf(serving)).toEqual([]);
    const report = (since: number) =>
      manage(input(state, both, { measured: { "guide-2": { ...told.bad, since } } })).rollout;
    expect(types(report(200))).toEqual(["ReportMeasured"]);
    expect(report(100)).toEqual([]);
  });

  test("ends where its group fails, or is lost too often, whatever became of the old ones", () => {
    const state = stateAfter(...told.toCanary);
    const failed = manage(input(state, { ...old, "guide-2-0": "failed" }));
    expect(failed.rollout[0]).toMatchObject({
      ...{ type: "ReportProblem", reason: "group guide-2-0 failed: no image" },
    });
    const lost = (times: number, groupId: string) => {
      const losses = { ...groupAs(groupId, "ready"), losses: times } as GroupState;
      const given = input(state, both);
      return types(
        manage({ ...given, groups: new Map([...given.groups, [groupId, losses]]) }).rollout,
      );
    };
    expect(lost(3, "guide-2-0")).toEqual([]);
    expect(lost(4, "guide-2-0")).toEqual(["ReportProblem"]);
    expect(lost(4, "guide-1-0")).toEqual([]);
  });

  test("checks the time only when it is over", () => {
    const state = stateAfter(...told.toCanary);
    expect(types(manage(input(state, both, { now: 3_699 })).rollout)).toEqual([]);
    expect(types(manage(input(state, both, { now: 3_700 })).rollout)).toEqual(["CheckTimeouts"]);
  });

  test("keeps the groups of the promoted revision while it goes on", () => {
    const wide = { ...told.adopt, groupIds: ["guide-1-0", "guide-1-1"] } as RolloutCommand;
    const lives = { ...both, "guide-1-1": "ready" } as const;
    const much = 3_600_000;
    expect(
      types(
        manage(input(stateAfter(wide), { ...old, "guide-1-1": "ready" }, { now: much })).rollout,
      ),
    ).toEqual(["ReleaseGroup"]);
    const paused = stateAfter(wide, ...told.toCanary.slice(1), told.pause(250));
    expect(types(manage(input(paused, lives, { now: much })).rollout)).toEqual([]);
  });
});

describe("a revision without traffic", () => {
  const state = stateAfter(...told.toDraining);
  const settled = 1_300 + 1_000;
  const rolloutOf = (change: Partial<Observed> & { now?: number }, groups = both) =>
    types(manage(input(state, groups, { now: settled, ...change })).rollout);

  test("is drained when its turns have ended and nobody can ask it for more", () => {
    expect(rolloutOf({})).toEqual(["DrainRevision"]);
    expect(rolloutOf({ now: settled - 1 })).toEqual([]);
    expect(rolloutOf({ load: { "guide-1": { ...idle, openTurns: 1 }, "guide-2": idle } })).toEqual(
      [],
    );
    expect(rolloutOf({ load: {} })).toEqual([]);
    // The weights moved later than the log said, or have not moved yet.
    const weights = { weights: state.weights, version: 9, setAt: 2_000 };
    expect(rolloutOf({ weights })).toEqual([]);
    expect(rolloutOf({ weights, now: 3_000 })).toEqual(["DrainRevision"]);
    expect(rolloutOf({ weights: undefined })).toEqual([]);
  });

  test("is kept while no group of the promoted one takes turns", () => {
    const groups = [shown("guide-1-0"), shown("guide-2-0", { heartbeat: undefined })];
    expect(rolloutOf({ groups })).toEqual([]);
    const draining = stateAfter(...told.toDraining, told.drain(1_400, "guide-1"));
    expect(types(manage(input(draining, both, { groups })).rollout)).toEqual([]);
    expect(types(manage(input(draining, both)).rollout)).toEqual(["ReleaseGroup"]);
  });

  test("gets a group again for turns that wait, until it is overdue", () => {
    const path = [
      ...[...told.toDraining, told.drain(1_400, "guide-1")],
      ...[told.releaseGroup(1_410, "guide-1-0"), told.removeGroup(1_420, "guide-1-0")],
    ];
    const load = { "guide-1": { ...idle, openTurns: 1, waitingTurns: 1 }, "guide-2": idle };
    const lives = { "guide-2-0": "ready" } as const;
    const rollout = (commands: RolloutCommand[]) =>
      types(manage(input(stateAfter(...commands), lives, { load })).rollout);
    expect(rollout(path)).toEqual(["AddGroup"]);
    expect(rollout([...path, told.checkTimeouts(9_000)])).toEqual(["ReportRetired"]);
    expect(types(manage(input(stateAfter(...path), lives)).rollout)).toEqual(["ReportRetired"]);
  });
});

describe("fewer groups", () => {
  const ids = ["guide-1-0", "guide-1-1", "guide-1-2"];
  const path = [
    { ...told.adopt, groupIds: ids, scale: { ...told.scale, max: 3 } } as RolloutCommand,
  ];
  const released = (
    groups: Record<string, keyof typeof lives>,
    running: number[],
    lately: Partial<Heartbeat> = {},
  ) => {
    const at = 3_600_000;
    const shows = ids.map((id, i) =>
      shown(id, { heartbeat: heartbeat({ at, running: running[i] ?? 0, ...lately }) }),
    );
    return manage(input(stateAfter(...path), groups, { groups: shows, now: at })).rollout.flatMap(
      (command) => (command.type === "ReleaseGroup" ? command.groupId : []),
    );
  };
  const allReady = { "guide-1-0": "ready", "guide-1-1": "ready", "guide-1-2": "ready" } as const;

  test("are those that do not serve, then those with fewest turns, then the newest", () => {
    expect(released({ ...allReady, "guide-1-0": "forming" }, [])).toEqual(["guide-1-0"]);
    expect(released(allReady, [3, 1, 2])).toEqual(["guide-1-1"]);
    expect(released(allReady, [2, 2, 2])).toEqual(["guide-1-2"]);
  });

  test("are never so few that none is ready", () => {
    const forming = {
      "guide-1-0": "forming",
      "guide-1-1": "forming",
      "guide-1-2": "ready",
    } as const;
    expect(released(forming, [])).toEqual(["guide-1-1"]);
    expect(released({ ...allReady }, [], { isAccepting: false })).toEqual([]);
  });
});
