import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { autoscale, type ScaleInput, warmingMs } from "../../events/autoscale.ts";
import type { ObservedLoad } from "../../events/cluster-port.ts";
import { fold } from "../../events/decider.ts";
import { group, type KnownGroup } from "../../events/group.ts";
import { scaleSchema } from "../../events/rollout-request.ts";

const minute = 60_000;
const scale = scaleSchema.parse({
  ...{ min: 1, max: 4, target: { busySlots: 0.5, queueWaitMs: 2_000 } },
  cooldown: { upMs: minute, downMs: 10 * minute },
});
const resting = { ...scale, min: 0, zeroAfterMs: 5 * minute };
const now = 100 * minute;
const load = (openTurns: number, change: Partial<ObservedLoad> = {}): ObservedLoad => ({
  ...{ openTurns, waitingTurns: 0, queueWaitMs: 0, lastTurnAt: now },
  ...change,
});
const decide = (change: Partial<ScaleInput>) =>
  autoscale({
    ...{ scale, groups: 2, slots: 10, load: load(8), grownAt: 0, shrunkAt: 0, now },
    ...change,
  }).groups;

describe("the number of groups", () => {
  test("follows the open turns, by the target share of the slots", () => {
    expect(decide({ load: load(10) })).toBe(2);
    expect(decide({ load: load(11) })).toBe(3);
    expect(decide({ load: load(20) })).toBe(4);
    expect(decide({ load: load(500) })).toBe(4);
  });

  test("grows by one where turns wait too long, though there are slots", () => {
    const waiting = load(5, { waitingTurns: 1, queueWaitMs: 2_001 });
    expect(decide({ load: waiting })).toBe(3);
    expect(autoscale({ ...inputOf(waiting) }).reason).toBe(
      "turns wait 2001 ms; 2000 ms is the target",
    );
    expect(decide({ load: { ...waiting, queueWaitMs: 2_000 } })).toBe(2);
  });

  test("shrinks by one at a time, and only where the rest has room to spare", () => {
    expect(decide({ groups: 4, load: load(0) })).toBe(3);
    expect(decide({ load: load(3) })).toBe(1);
    expect(decide({ load: load(4) })).toBe(2);
  });

  test("waits for its cool-downs", () => {
    expect(decide({ load: load(20), grownAt: now - minute + 1 })).toBe(2);
    expect(decide({ load: load(20), grownAt: now - minute })).toBe(4);
    for (const name of ["grownAt", "shrunkAt"] as const) {
      expect(decide({ load: load(0), [name]: now - 10 * minute + 1 })).toBe(2);
      expect(decide({ load: load(0), [name]: now - 10 * minute })).toBe(1);
    }
  });

  test("keeps its bounds at once", () => {
    expect(decide({ groups: 0, load: undefined, grownAt: now })).toBe(1);
    expect(decide({ groups: 6, load: load(500), shrunkAt: now })).toBe(4);
  });

  test("stays where the load, or what a group can do, is not known", () => {
    expect(decide({ load: undefined })).toBe(2);
    expect(decide({ slots: undefined, load: load(0) })).toBe(2);
  });

  test("comes to rest after a while without turns, and the first turn ends it", () => {
    const idle = load(0, { lastTurnAt: now - 5 * minute });
    expect(decide({ scale: resting, load: idle })).toBe(0);
    expect(decide({ scale: resting, load: { ...idle, lastTurnAt: now - 5 * minute + 1 } })).toBe(1);
    // A group that was added a moment ago is not taken away before it could serve.
    expect(decide({ scale: resting, load: idle, grownAt: now - minute })).toBe(2);
    expect(decide({ scale, load: idle })).toBe(1);
    expect(decide({ scale: resting, groups: 0, load: idle })).toBe(0);
    expect(decide({ scale: resting, groups: 0, load: load(1), shrunkAt: now })).toBe(1);
    expect(decide({ scale: { ...resting, zeroAfterMs: null }, load: idle })).toBe(1);
  });

  test("is within its bounds, and 0 only where there are no turns", () => {
    const inputs = fc.record({
      groups: fc.nat(6),
      slots: fc.option(fc.integer({ min: 1, max: 64 }), { nil: undefined }),
      load: fc.option(
        fc.record({
          ...{ openTurns: fc.nat(300), waitingTurns: fc.nat(300), queueWaitMs: fc.nat(9_000) },
          lastTurnAt: fc.option(fc.integer({ min: 0, max: now }), { nil: undefined }),
        }),
        { nil: undefined },
      ),
      grownAt: fc.integer({ min: 0, max: now }),
      shrunkAt: fc.integer({ min: 0, max: now }),
      scale: fc.constantFrom(scale, resting),
    });
    fc.assert(
      fc.property(inputs, (drawn) => {
        const { groups } = autoscale({ ...drawn, now });
        expect(groups).toBeLessThanOrEqual(4);
        expect(groups).toBeGreaterThanOrEqual(drawn.scale.min);
        if (groups === 0 && drawn.groups > 0) expect(drawn.load?.openTurns).toBe(0);
        if (drawn.groups <= 4) expect(groups).toBeGreaterThanOrEqual(Math.min(drawn.groups, 1) - 1);
        // At rest it stays at rest.
        const again = autoscale({ ...drawn, groups, now, grownAt: now, shrunkAt: now }).groups;
        expect(again).toBe(groups === 0 && (drawn.load?.openTurns ?? 0) > 0 ? 1 : groups);
      }),
    );
  });
});

function inputOf(given: ObservedLoad): ScaleInput {
  return { scale, groups: 2, slots: 10, load: given, grownAt: 0, shrunkAt: 0, now };
}

describe("the time until a group is ready", () => {
  const asked = { model: "guide", revision: "guide-1", formMs: minute };
  const groupOf = (at: number, readyAt?: number, isLost = false): KnownGroup => {
    const fact = { version: 1, at, groupId: "g" } as const;
    const state = fold(group, [
      { type: "GroupRequested", ...fact, ...asked },
      ...(readyAt === undefined
        ? []
        : [{ type: "GroupReady", ...fact, at: readyAt, epoch: 1, ranks: 1, slots: 1 } as const]),
      ...(isLost ? [{ type: "GroupLost", ...fact, at: now, epoch: 1, reason: "x" } as const] : []),
    ]);
    if (state.status === "none") throw new Error("it was asked for");
    return state;
  };

  test("is that of those before, less what has passed", () => {
    expect(warmingMs([groupOf(0, 40_000)], now)).toBe(0);
    expect(warmingMs([groupOf(0, 40_000, true)], now + 10_000)).toBe(30_000);
    expect(warmingMs([groupOf(now - minute)], now)).toBe(240_000);
    expect(warmingMs([], now)).toBe(300_000);
    // Longer than usual: it may be there any moment, but it is not.
    expect(warmingMs([groupOf(0, 40_000, true)], now + minute)).toBe(1_000);
  });
});
