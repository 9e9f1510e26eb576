import { describe, expect, test } from "vitest";
import { simulateCallbacks } from "../../bench/scale/callbacks.ts";
import { demandOf } from "../../bench/scale/demand.ts";
import { limitsInOrder } from "../../bench/scale/limits.ts";
import { simulateStorm } from "../../bench/scale/storm.ts";
import { scaleTables } from "../../bench/scale/tables.ts";
import { Random } from "../simulation/random.ts";

/** The sums of docs/SCALE.md by hand, and what its simulations have to keep to. */

describe("a million connections, a prompt every ten minutes", () => {
  const demand = demandOf(1_000_000);

  test("ask 1,667 times a second, and 20,000 answers of 12 s run at a time", () => {
    expect(demand.turns).toBeCloseTo(1_000_000 / 600, 6);
    expect(demand.running).toBeCloseTo((1_000_000 / 600) * (300 / 25), 6);
    expect(demand.tokens).toBeCloseTo(500_000, 6);
    expect(demand.frames).toBeCloseTo(200_000, 6);
  });

  test("open 566 connections a second: pages last 30 minutes, and API Gateway's two hours at most", () => {
    expect(demand.newConnections).toBeCloseTo(1_000_000 / (1_800 * (1 - Math.exp(-4))), 6);
    expect(demand.reopened).toBeCloseTo((1_000_000 / 600) * Math.exp(-1), 6);
    expect(demand.pings).toBeCloseTo(1_000_000 / 540, 6);
  });

  test("need Redis for ended turns first: 14,600 bytes each, for an hour", () => {
    expect(demand.redisBytes).toBeCloseTo((1_000_000 / 600) * 3_600 * 14_600 + 6e8, -3);
    // 500,000 appends at 60 % of 85,000, and 88.2 GB at 10.5 GB.
    expect(demand.redisShards).toBe(10);
    expect(demand.relays).toBe(100);
  });

  test("write four items a turn, six units, twice", () => {
    expect(demand.commits).toBeCloseTo(4 * demand.turns, 6);
    expect(demand.writeUnits).toBeCloseTo(12 * demand.turns, 6);
    expect(demand.indexWriteUnits).toBeCloseTo((6 * demand.turns) / 4, 6);
  });

  test("take some hundreds of groups", () => {
    expect(demand.groups).toBe(Math.ceil(1_000_000 / 600 / (5.0594769 * 0.7)));
  });
});

test("what a tenth of the connections asks for is a tenth", () => {
  const [large, small] = [demandOf(1_000_000), demandOf(100_000)];
  for (const name of [
    "turns",
    "tokens",
    "frames",
    "sqsCalls",
    "writeUnits",
    "invocations",
  ] as const) {
    expect(large[name]).toBeCloseTo(10 * small[name], 3);
  }
});

test("limits come in the order in which they are met, callbacks first", () => {
  const limits = limitsInOrder();
  const sizes = limits.map(({ connections }) => connections);
  expect(sizes).toEqual(sizes.toSorted((a, b) => a - b));
  expect(
    limits.slice(0, 3).map(({ what, connections }) => [what, Math.round(connections)]),
  ).toEqual([
    ["callbacks, a frame for each token", 16_000],
    ["callbacks, frames of 100 ms", 40_000],
    ["reports queue, FIFO", 90_000],
  ]);
});

describe("callbacks", () => {
  test("below the budget each token has its own frame", () => {
    const { framesPerSecond, tokensPerFrame, betweenFramesMs } = simulateCallbacks(
      5_000,
      new Random(1),
    );
    expect(framesPerSecond).toBeLessThan(8_000);
    expect(tokensPerFrame).toBeCloseTo(1, 1);
    expect(betweenFramesMs.p50).toBeCloseTo(40, 3);
  });

  test("beyond it the budget is kept, frames widen, and no token is left behind", () => {
    const { running, framesPerSecond, tokensPerFrame, betweenFramesMs } = simulateCallbacks(
      60_000,
      new Random(1),
    );
    expect(framesPerSecond).toBeLessThan(8_000 * 1.01);
    expect(framesPerSecond).toBeGreaterThan(8_000 * 0.98);
    // Each of the running turns has its share of the calls.
    expect(betweenFramesMs.p50).toBeCloseTo((running / 8_000) * 1_000, -1.2);
    const tokens = framesPerSecond * tokensPerFrame;
    expect(tokens / demandOf(60_000).tokens).toBeGreaterThan(0.9);
    expect(tokens / demandOf(60_000).tokens).toBeLessThan(1.1);
  });
});

describe("a storm", () => {
  test("lets nobody in faster than the door takes them, and everybody at last", () => {
    const { coming, doorPerSecond, backSeconds, attemptsPerClient } = simulateStorm(
      100_000,
      "API Gateway",
      "everybody",
      new Random(1),
    );
    expect(coming).toBe(33_333);
    expect(doorPerSecond).toBe(500);
    expect(backSeconds.all).toBeGreaterThan(33_333 / 500 - 1);
    expect(backSeconds.half).toBeLessThan(backSeconds.most);
    expect(attemptsPerClient).toBeGreaterThan(1);
  });

  test("of those only who wait for an answer is none", () => {
    const storm = simulateStorm(100_000, "relays", "waiting", new Random(1));
    expect(storm.coming).toBe(Math.round(2_000 / 3));
    expect(storm.attemptsPerClient).toBe(1);
    expect(storm.backSeconds.all).toBeLessThan(11);
  });

  test("is over the sooner, the more relays are left", () => {
    const [few, many] = [100_000, 1_000_000].map((size) =>
      simulateStorm(size, "relays", "everybody", new Random(1)),
    );
    // 6 of 10 relays for 33,333, 66 of 100 for 333,333.
    expect([few?.doorPerSecond, many?.doorPerSecond]).toEqual([1_200, 13_200]);
    expect(many?.backSeconds.all).toBeLessThan(few?.backSeconds.all ?? 0);
  });
});

test("the same seed tells the same, another one other figures", () => {
  const [first, again, other] = [7, 7, 8].map((seed) => scaleTables(5_000, seed));
  expect(again).toEqual(first);
  expect(other?.callbacks).not.toBe(first?.callbacks);
});
