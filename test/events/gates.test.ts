import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { describeFailures, judge, type Measured } from "../../events/gates.ts";
import { gatesSchema } from "../../events/rollout-request.ts";

const gates = gatesSchema.parse({
  ...{ minimumTurns: 20, errorRate: 0.1, firstTokenP95Ms: 1_000, interTokenP95Ms: 100 },
  slowdown: 2,
});
const measured = (change: Partial<Measured> = {}): Measured => ({
  ...{ turns: 20, errors: 0, firstTokenP95Ms: 500, interTokenP95Ms: 50 },
  ...change,
});

describe("gates", () => {
  test("pass what is within all limits, the limits included", () => {
    expect(judge(gates, measured(), null)).toEqual({ result: "passed" });
    const edge = measured({ errors: 2, firstTokenP95Ms: 1_000, interTokenP95Ms: 100 });
    expect(judge(gates, edge, null)).toEqual({ result: "passed" });
  });

  test("stay open below the minimum of turns, whatever the latency", () => {
    const slow = measured({ turns: 19, firstTokenP95Ms: 9_000 });
    expect(judge(gates, slow, null)).toEqual({ result: "open" });
  });

  test("fail by errors as soon as the missing turns could not make up for them", () => {
    expect(judge(gates, measured({ turns: 5, errors: 2 }), null)).toEqual({ result: "open" });
    expect(judge(gates, measured({ turns: 5, errors: 3 }), null)).toEqual({
      result: "failed",
      failures: [{ gate: "errorRate", measured: 0.6, limit: 0.1 }],
    });
  });

  test("name every limit that is passed", () => {
    const bad = measured({ errors: 10, firstTokenP95Ms: 1_500, interTokenP95Ms: 150 });
    const verdict = judge(gates, bad, measured());
    const failures = verdict.result === "failed" ? verdict.failures : [];
    expect(failures.map(({ gate }) => gate)).toEqual([
      "errorRate",
      "firstTokenP95Ms",
      "firstTokenSlowdown",
      "interTokenP95Ms",
      "interTokenSlowdown",
    ]);
    expect(describeFailures(failures.slice(0, 2))).toBe(
      "errorRate 0.5 is above 0.1; firstTokenP95Ms 1500 is above 1000",
    );
  });

  test("compare to the promoted revision only where it has enough turns itself", () => {
    const slower = measured({ firstTokenP95Ms: 900 });
    const usual = measured({ firstTokenP95Ms: 300 });
    expect(judge(gates, slower, usual).result).toBe("failed");
    expect(judge(gates, slower, { ...usual, turns: 19 }).result).toBe("passed");
    expect(judge(gates, slower, { ...usual, firstTokenP95Ms: null }).result).toBe("passed");
  });

  test("that are null are no gates", () => {
    const open = { ...gates, errorRate: null, firstTokenP95Ms: null, interTokenP95Ms: null };
    const bad = measured({ errors: 20, firstTokenP95Ms: 90_000, interTokenP95Ms: 9_000 });
    expect(judge({ ...open, slowdown: null }, bad, measured()).result).toBe("passed");
  });

  test("more errors never make a verdict better", () => {
    const rank = { failed: 0, open: 1, passed: 2 };
    fc.assert(
      fc.property(fc.nat(100), fc.nat(100), fc.nat(20), (turns, errors, more) => {
        const one = judge(gates, measured({ turns, errors }), null).result;
        const other = judge(gates, measured({ turns, errors: errors + more }), null).result;
        expect(rank[other]).toBeLessThanOrEqual(rank[one]);
      }),
    );
  });
});
