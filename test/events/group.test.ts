import { describe, expect, test } from "vitest";
import { fold } from "../../events/decider.ts";
import { upcast } from "../../events/event-catalog.ts";
import { formDeadline, type GroupCommand, group } from "../../events/group.ts";
import type { GroupEvent } from "../../events/group-events.ts";
import { scenarios } from "./scenario.ts";

const { given } = scenarios(group);

const stamp = { at: 100, groupId: "guide-2-0" };
const fact = { version: 1, ...stamp } as const;
const asked = { model: "guide", revision: "guide-2", formMs: 1_000 };

const requested: GroupEvent = { type: "GroupRequested", ...fact, ...asked };
const ready = (epoch = 5, at = 400): GroupEvent => ({
  ...{ type: "GroupReady", ...fact, at, epoch, ranks: 2, slots: 8 },
});
const lost = (epoch = 5, reason = "silent"): GroupEvent => ({
  ...{ type: "GroupLost", ...fact, at: 500, epoch, reason },
});
const failed: GroupEvent = { type: "GroupFailed", ...fact, cause: "cluster", reason: "no image" };
const draining: GroupEvent = { type: "GroupDraining", ...fact, reason: "not wanted" };
const gone: GroupEvent = { type: "GroupGone", ...fact };

const request: GroupCommand = { type: "RequestGroup", ...stamp, ...asked };
const reportReady = (epoch = 5, at = 400): GroupCommand => ({
  ...{ type: "ReportReady", ...stamp, at, epoch, ranks: 2, slots: 8 },
});
const reportLost = (epoch = 5): GroupCommand => ({
  ...{ type: "ReportLost", ...stamp, at: 500, epoch, reason: "silent" },
});
const check = (at: number): GroupCommand => ({ type: "CheckForming", ...stamp, at });
const reportFailed: GroupCommand = { type: "ReportFailed", ...stamp, reason: "no image" };
const drain: GroupCommand = { type: "DrainGroup", ...stamp, reason: "not wanted" };
const reportGone: GroupCommand = { type: "ReportGone", ...stamp };

const histories: Record<string, GroupEvent[]> = {
  forming: [requested],
  ready: [requested, ready()],
  draining: [requested, ready(), draining],
  failed: [requested, failed],
  gone: [requested, ready(), draining, gone],
};

const commands: Record<string, GroupCommand> = {
  RequestGroup: request,
  ReportReady: reportReady(),
  "ReportReady of a higher epoch": reportReady(6, 500),
  ReportLost: reportLost(),
  "CheckForming in time": check(1_099),
  "CheckForming late": check(1_100),
  ReportFailed: reportFailed,
  DrainGroup: drain,
  ReportGone: reportGone,
};

const timedOut: GroupEvent = {
  ...{ type: "GroupFailed", ...fact, at: 1_100, cause: "timeout" },
  reason: "it was not ready within 1000 ms",
};

/** What follows in each state; in all others nothing. */
const effects: Record<string, Record<string, GroupEvent[]>> = {
  forming: {
    ReportReady: [ready()],
    "ReportReady of a higher epoch": [ready(6, 500)],
    "CheckForming late": [timedOut],
    ReportFailed: [failed],
    DrainGroup: [draining],
  },
  ready: {
    "ReportReady of a higher epoch": [lost(5, "it is there again with epoch 6"), ready(6, 500)],
    ReportLost: [lost()],
    DrainGroup: [draining],
  },
  draining: { ReportGone: [gone] },
  failed: { ReportGone: [gone] },
  gone: {},
};

const pairs = Object.keys(histories).flatMap((status) =>
  Object.keys(commands).map((name) => [status, name] as const),
);

describe("a group", () => {
  test.each(pairs)("that is %s hears %s", (status, name) => {
    const command = commands[name];
    if (command === undefined) throw new Error(name);
    given(...(histories[status] ?? []))
      .when(command)
      .then(...(effects[status]?.[name] ?? []));
  });

  test.each(Object.keys(histories))("is %s after its history", (status) => {
    expect(fold(group, histories[status] ?? []).status).toBe(status);
  });

  test.each(Object.keys(histories))("writes events of the catalog until it is %s", (status) => {
    const events = histories[status] ?? [];
    expect(events.map((event) => upcast(JSON.parse(JSON.stringify(event))))).toEqual(events);
  });

  test("begins by being asked for", () => {
    given().when(request).then(requested);
  });

  test.each(Object.keys(commands).filter((name) => name !== "RequestGroup"))(
    "that nobody asked for refuses %s",
    (name) => {
      given()
        .when(commands[name] as GroupCommand)
        .thenRefused("not_found", "groupId");
    },
  );

  test("ignores a heartbeat and a loss of an epoch of the past", () => {
    given(requested, ready(5), lost(5)).when(reportReady(4)).thenNothing();
    given(requested, ready(5)).when(reportReady(4)).thenNothing();
    given(requested, ready(5), ready(6)).when(reportLost(5)).thenNothing();
  });

  test("is ready again with the epoch it had, when it was only thought lost", () => {
    given(requested, ready(5), lost(5)).when(reportReady(5, 600)).then(ready(5, 600));
  });

  test("has all of its time to form again after a loss, and counts losses", () => {
    const state = fold(group, [requested, ready(), lost()]);
    if (state.status === "none") throw new Error("it was asked for");
    expect(state).toMatchObject({ status: "forming", losses: 1, formedInMs: 300 });
    expect(formDeadline(state)).toBe(1_500);
    given(requested, ready(), lost()).when(check(1_499)).thenNothing();
  });

  test("remembers that it failed after it is gone", () => {
    const state = fold(group, [requested, failed, gone]);
    expect(state).toMatchObject({ status: "gone", hasFailed: true, reason: "no image" });
  });
});
