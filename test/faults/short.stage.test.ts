import { expect, test } from "vitest";
import { storm } from "./storm.ts";

test("twenty answers are whole while ten things go wrong", async () => {
  const report = await storm({
    ...{ seed: 1, turns: 20, faults: 10, spanMs: 16_000, ranks: 1 },
    note: () => {},
  });
  expect(report.problems).toEqual([]);
  expect(report.turns).toBe(20);
  expect([...report.faults.values()].reduce((sum, count) => sum + count, 0)).toBe(10);
}, 180_000);
