import { describe, expect, test } from "vitest";
import { parseRolloutRequest } from "../../../events/rollout-request.ts";

const least = { rolloutId: "r2", model: "guide", revision: "guide-2", by: "ada" };

describe("a request for a rollout", () => {
  test("needs only its names", () => {
    expect(parseRolloutRequest(least)).toEqual({
      ...{ ...least, reason: "", whenBusy: "refuse", steps: [10, 50, 100], bakeMs: 600_000 },
      gates: {
        ...{ minimumTurns: 50, errorRate: 0.02, firstTokenP95Ms: 10_000, interTokenP95Ms: 250 },
        slowdown: 1.5,
      },
      ...{ automaticRollback: true, maxGroupLosses: 3 },
      timeouts: {
        ...{ capacityMs: 3_600_000, formMs: 1_800_000, stepMs: 21_600_000, drainMs: 3_600_000 },
        settleMs: 35_000,
      },
      scale: {
        ...{ min: 1, max: 1, target: { busySlots: 0.8, queueWaitMs: 2_000 }, zeroAfterMs: null },
        cooldown: { upMs: 60_000, downMs: 600_000 },
      },
    });
  });

  test.each<[string, Record<string, unknown>, string, RegExp]>([
    ["a step above 100", { steps: [10, 101] }, "steps.1", /100/],
    ["steps that go down", { steps: [50, 10, 100] }, "steps", /above the one before/],
    ["steps that end early", { steps: [10, 50] }, "steps", /must be 100/],
    ["no steps", { steps: [] }, "steps", />=1/],
    ["a share beyond 1", { gates: { errorRate: 2 } }, "gates.errorRate", /<=1/],
    ["a gate nobody knows", { gates: { colour: 1 } }, "gates.colour", /leave it out/],
    ["a field nobody knows", { colour: 1 }, "colour", /leave it out/],
    ["no time at all", { timeouts: { formMs: 0 } }, "timeouts.formMs", />=1000/],
    ["a week and more of bake", { bakeMs: 1e9 }, "bakeMs", /<=604800000/],
    ["fewer than at least", { scale: { min: 3, max: 2 } }, "scale.min", /must not be above max/],
    ["rest with a minimum", { scale: { min: 1, zeroAfterMs: 9_000 } }, "scale.min", /must be 0/],
    ["a name with a slash", { revision: "a/b" }, "revision", /letters, digits/],
    ["an empty name", { rolloutId: "" }, "rolloutId", /1 to 100/],
    ["nobody who asks", { by: "" }, "by", />=1/],
  ])("is refused with %s, by field and limit", (_, change, field, message) => {
    expect(() => parseRolloutRequest({ ...least, ...change })).toThrow(
      expect.objectContaining({
        ...{ code: "invalid_field", field },
        message: expect.stringMatching(message),
      }),
    );
  });

  test("is refused where it is no object", () => {
    expect(() => parseRolloutRequest("guide-2")).toThrow(/expected object/);
  });
});
