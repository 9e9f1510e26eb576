import { expect, test } from "vitest";
import { dialogues, faultKinds, planOf } from "./plan.ts";

const options = { seed: 7, turns: 200, faults: 100, spanMs: 200_000, ranksAreProcesses: true };

test("a seed always draws the same plan, and another seed another", () => {
  expect(planOf(options)).toEqual(planOf({ ...options }));
  expect(planOf(options)).not.toEqual(planOf({ ...options, seed: 8 }));
});

test("a plan has what was asked for, in the order of time", () => {
  const { asks, faults } = planOf(options);
  const turns = asks.map(({ dialogue }) => dialogues[dialogue]?.prompts.length ?? 0);
  expect(turns.reduce((sum, count) => sum + count, 0)).toBe(200);
  expect(faults).toHaveLength(100);
  for (const list of [asks, faults]) {
    const times = list.map(({ atMs }) => atMs);
    expect(times).toEqual(times.toSorted((a, b) => a - b));
    expect(times.at(-1)).toBeLessThanOrEqual(options.spanMs);
  }
});

test("a hundred faults are of every kind; ranks that are threads are not killed alone", () => {
  const kinds = new Set(planOf(options).faults.map(({ kind }) => kind));
  expect([...kinds].sort()).toEqual([...faultKinds].sort());
  const threads = planOf({ ...options, ranksAreProcesses: false }).faults;
  expect(threads.some(({ kind }) => kind === "kill rank")).toBe(false);
});
