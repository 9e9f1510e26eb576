import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Scenario, Simulation } from "./simulation.ts";
import { type PlantedBugs, Violation } from "./world.ts";

const scenario = fc.record<Scenario>({
  seed: fc.nat(1_000_000),
  candidate: fc.constantFrom("good", "slow", "failing", "never ready", "no machines"),
  lost: fc.constantFrom(0, 0.1, 0.4),
  doubled: fc.constantFrom(0, 0.2),
  late: fc.constantFrom(0, 0.2, 0.5),
  dies: fc.constantFrom(0, 0.1, 0.3),
  kills: fc.boolean(),
  operator: fc.boolean(),
  rests: fc.boolean(),
  groups: fc.integer({ min: 1, max: 3 }),
});

describe("the manager, on a cluster and a log with faults", () => {
  test("converges, and holds what must hold on the way", () => {
    fc.assert(
      fc.property(scenario, (drawn) => {
        const simulation = new Simulation(drawn);
        const state = simulation.run();
        const outcome = state.past[0]?.outcome;
        if (drawn.operator) return;
        if (drawn.candidate !== "good") {
          expect([state.promoted, outcome]).toEqual(["v1", "rolled back"]);
        } else if (
          !drawn.rests &&
          !drawn.kills &&
          drawn.lost < 0.4 &&
          drawn.late < 0.5 &&
          drawn.dies < 0.3
        ) {
          expect([state.promoted, outcome]).toEqual(["v2", "promoted"]);
        }
      }),
      { numRuns: 120 },
    );
  });

  test.each<keyof PlantedBugs>(["unfencedWeights", "countForming", "overlookTurns", "blindGates"])(
    "finds a planted bug: %s",
    (bug) => {
      const found = fc.check(
        fc.property(fc.nat(1_000_000), (seed) => {
          const calm = {
            lost: 0.1,
            late: 0.2,
            dies: 0,
            kills: false,
            operator: false,
            rests: false,
          };
          const faulty: Scenario = { seed, candidate: "failing", doubled: 0.4, groups: 3, ...calm };
          const state = new Simulation(faulty, { [bug]: true }).run();
          if (state.promoted !== "v1") throw new Violation(`${state.promoted} is promoted`);
        }),
        { numRuns: 400, endOnFailure: true },
      );
      expect(found.failed).toBe(true);
      expect(found.errorInstance).toBeInstanceOf(Violation);
    },
  );
});
