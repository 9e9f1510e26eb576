import { expect, test } from "vitest";
import { summaryOf } from "../../../web/ops/event-summary.ts";
import {
  clock,
  count,
  duration,
  exactClock,
  fromLocalField,
  percent,
  percentOf,
  perSecond,
  plural,
  times,
  toLocalField,
} from "../../../web/ops/format.ts";
import { omittedBytes } from "../../../web/ops/omitted.ts";

test.each([
  [0, "0 ms"],
  [0.42, "0.4 ms"],
  [31.4, "31 ms"],
  [999.4, "999 ms"],
  [999.6, "1 s"],
  [3_240, "3.2 s"],
  [9_960, "10 s"],
  [42_000, "42 s"],
  [59_700, "1 min"],
  [245_000, "4 min 05 s"],
  [3_600_000, "1 h"],
  [7_800_000, "2 h 10 min"],
  [86_400_000, "1 d"],
  [273_600_000, "3 d 4 h"],
  [null, "–"],
])("a time span of %s ms is %s", (ms, text) => {
  expect(duration(ms)).toBe(text);
});

test("figures that are not known are no zeros", () => {
  for (const format of [count, percent, percentOf, perSecond]) {
    expect(format(null)).toBe("–");
    expect(format(0)).toMatch(/^0/);
  }
});

test("figures have as many digits as say something", () => {
  expect(percent(0.42)).toBe("0.4 %");
  expect(percent(3)).toBe("3 %");
  expect(percentOf(0.123)).toBe("12 %");
  expect(perSecond(4.26)).toBe("4.3/s");
  expect(perSecond(12_345.6)).toBe("12,346/s");
  expect(plural(1, "job")).toBe("1 job");
  expect(plural(1_200, "job")).toBe("1,200 jobs");
});

test("a time has its date only where it is of another day", () => {
  const noon = new Date(2026, 10, 26, 12, 3, 4, 56).getTime();
  expect(clock(noon, noon + 1_000)).toBe("12:03:04");
  expect(exactClock(noon, noon)).toBe("12:03:04.056");
  expect(clock(noon, noon + 86_400_000)).toBe("2026-11-26 12:03:04");
});

test("a field for a time keeps the time to the second", () => {
  const at = new Date(2026, 2, 29, 3, 4, 5).getTime();
  expect(fromLocalField(toLocalField(at))).toBe(at);
  expect(fromLocalField("")).toBeUndefined();
});

test("an event is told on a line, without its texts", () => {
  const event = {
    ...{ type: "TurnRequested", version: 1, at: 5, turnId: "t", model: "m" },
    ...{ revision: "m-1", prompt: { omitted: 43 }, sampling: { topK: 2 } },
  };
  expect(summaryOf(event)).toBe('revision=m-1 prompt=(43 bytes) sampling={"topK":2}');
  expect(summaryOf({ ...event, reason: "x".repeat(500) })).toHaveLength(140);
  const weights = [
    { revision: "m-1", percent: 90 },
    { revision: "m-2", percent: 10 },
  ];
  expect(summaryOf({ type: "CanaryStepped", version: 1, at: 0, weights })).toBe(
    "weights=[m-1 90 %, m-2 10 %]",
  );
  expect(omittedBytes({ omitted: 3, more: 1 })).toBeUndefined();
});

test("how often is said in words where it is once", () => {
  expect([times(1), times(2), times(1_200)]).toEqual(["once", "2 times", "1,200 times"]);
});
