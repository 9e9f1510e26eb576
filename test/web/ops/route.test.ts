import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { positionAt as realPositionAt } from "../../../events/ids.ts";
import { positionAt, timeOfPosition } from "../../../web/ops/position.ts";
import {
  type OpsRoute,
  opsAddress,
  parseOpsRoute,
  plotWindows,
  turnStatuses,
} from "../../../web/ops/route.ts";

type Known = Exclude<OpsRoute, { view: "unknown" }>;

const name = fc.string({ minLength: 1, maxLength: 20 });
const time = fc.integer({ min: 0, max: 8.64e15 });
const position = fc.integer({ min: 0, max: 2e12 }).map((ms) => realPositionAt(ms));
const optional = <Shape extends Record<string, fc.Arbitrary<unknown>>>(shape: Shape) =>
  fc.record(shape, { requiredKeys: [] });

const routes: fc.Arbitrary<Known> = fc.oneof(
  fc.constantFrom<Known>({ view: "overview" }, { view: "groups" }, { view: "queues" }),
  name.map((turnId): Known => ({ view: "turn", turnId })),
  optional({
    ...{ status: fc.constantFrom(...turnStatuses), model: name, revision: name, before: name },
  }).map((filter) => ({ view: "turns", filter }) as Known),
  optional({ model: name, at: time }).map((rest) => ({ view: "rollouts", ...rest }) as Known),
  optional({
    ...{ stream: name, type: name, at: time },
    commit: fc.record({ stream: name, position }),
  }).map((filter) => ({ view: "log", filter }) as Known),
  fc
    .record(
      { windowMs: fc.constantFrom(...plotWindows), revision: name },
      { requiredKeys: ["windowMs"] },
    )
    .map((rest) => ({ view: "plots", ...rest }) as Known),
);

describe("addresses of the operations page", () => {
  test("lead back to what they were made of", () => {
    fc.assert(
      fc.property(routes, (route) => {
        expect(parseOpsRoute(opsAddress(route))).toEqual(route);
      }),
    );
  });

  test("show what can be shown, whatever is written", () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(parseOpsRoute(`#/ops/${text}`).view).toBeDefined();
      }),
    );
    expect(parseOpsRoute("#/ops/")).toEqual({ view: "overview" });
    expect(parseOpsRoute("#/ops/nothing")).toEqual({ view: "unknown" });
    expect(parseOpsRoute("#/ops/turns/a/b")).toEqual({ view: "unknown" });
    expect(parseOpsRoute("#/ops/turns?status=asleep")).toEqual({ view: "turns", filter: {} });
    expect(parseOpsRoute("#/ops/log?at=yesterday&commit=x")).toEqual({ view: "log", filter: {} });
    expect(parseOpsRoute("#/ops/plots?minutes=7")).toEqual({ view: "plots", windowMs: 900_000 });
    expect(parseOpsRoute("#/ops/turns/%E0%A4%A")).toEqual({ view: "turn", turnId: "%E0%A4%A" });
  });
});

test("positions of the log are those of the log itself", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 50 - 1 }), (ms) => {
      expect(positionAt(ms)).toBe(realPositionAt(ms));
      expect(timeOfPosition(positionAt(ms))).toBe(ms);
    }),
  );
});
