import { describe, expect, test } from "vitest";
import type { EngineEvent } from "../../dataplane/engine/engine.ts";
import { Scheduler, type SchedulerLimits, type Step } from "../../dataplane/engine/scheduler.ts";
import { decodeOrder, encodeOrder, type RankOrder } from "../../dataplane/engine/step-plan.ts";
import { greedy } from "./collect.ts";

const eos = 999;

const range = (count: number, first = 0) => Array.from({ length: count }, (_, i) => first + i);

function scheduling(limits: Partial<SchedulerLimits> = {}) {
  const scheduler = new Scheduler({
    slots: 2,
    tokensPerStep: 4,
    tokensPerSharedStep: 4,
    contextLength: 200,
    pages: 100,
    eosTokens: [eos],
    ...limits,
  });
  const events: Record<string, EngineEvent[]> = {};
  const add = (
    name: string,
    promptTokens: number[],
    maxTokens = 9,
    emittedTokens: number[] = [],
    cacheScope = "",
  ) => {
    const heard: EngineEvent[] = [];
    events[name] = heard;
    const request = greedy(promptTokens, maxTokens, { emittedTokens, cacheScope });
    return scheduler.add(request, (event) => heard.push(event));
  };
  /** Runs one step, all of whose draws give `token`. */
  const step = (token: number): Step | undefined => {
    const next = scheduler.schedule();
    if (next !== undefined) {
      scheduler.postprocess(next, Int32Array.from(next.draws.map(() => token)));
    }
    return next;
  };
  return { scheduler, events, add, step };
}

/** Of each chunk: its first page, start, tokens, and whether a token is drawn after it. */
const chunksOf = (step: Step | undefined) =>
  step?.plan.chunks.map(({ pages, start, tokens, pick }) => {
    return [pages[0], start, tokens.join(" "), pick !== undefined];
  });

describe("a step", () => {
  test("takes a long prompt in chunks, and draws after the last", () => {
    const { add, step, events } = scheduling();
    add("a", [1, 2, 3, 4, 5, 6]);
    expect(chunksOf(step(7))).toEqual([[0, 0, "1 2 3 4", false]]);
    const second = step(7);
    expect(chunksOf(second)).toEqual([[0, 4, "5 6", true]]);
    expect(second?.draws.map(({ position }) => position)).toEqual([6]);
    expect(chunksOf(step(8))).toEqual([[0, 6, "7", true]]);
    expect(events["a"]).toEqual([
      { type: "token", token: 7 },
      { type: "token", token: 8 },
    ]);
  });

  test("lets those decode first who can, whoever else prefills", () => {
    const { add, step } = scheduling();
    add("a", [1]);
    step(7);
    add("b", [1, 2, 3, 4, 5, 6, 7, 8]);
    expect(chunksOf(step(7))).toEqual([
      [0, 1, "7", true],
      [1, 0, "1 2 3", false],
    ]);
    expect(chunksOf(step(8))).toEqual([
      [0, 2, "7", true],
      [1, 3, "4 5 6", false],
    ]);
  });

  test("gives slots first come, first served, and a freed one at once", () => {
    const { add, step, scheduler, events } = scheduling();
    add("a", [1], 1);
    add("b", [2]);
    add("c", [3]);
    expect(chunksOf(step(7))).toEqual([
      [0, 0, "1", true],
      [1, 0, "2", true],
    ]);
    expect(events["a"]?.at(-1)).toEqual({ type: "finish", reason: "length" });
    expect([scheduler.runningCount, scheduler.waitingCount]).toEqual([1, 1]);
    expect(chunksOf(step(8))).toEqual([
      [1, 1, "7", true],
      [0, 0, "3", true],
    ]);
  });

  test("has a smaller budget while somebody decodes", () => {
    const { add, step } = scheduling({ tokensPerStep: 8, tokensPerSharedStep: 3 });
    add("a", [1]);
    step(7);
    add("b", range(20));
    expect(chunksOf(step(7))).toEqual([
      [0, 1, "7", true],
      [1, 0, "0 1", false],
    ]);
  });
});

describe("pages", () => {
  test("of a common beginning are shared, within a scope", () => {
    const { add, step, scheduler } = scheduling({
      tokensPerStep: 200,
      tokensPerSharedStep: 200,
      slots: 4,
    });
    add("a", range(70));
    step(7);
    add("b", [...range(70), 7, 1]);
    add("c", [...range(40), 99]);
    add("d", range(70), 9, [], "another tenant");
    const next = step(8);
    expect(next?.plan.chunks.map(({ start, pages }) => [start, pages])).toEqual([
      [70, [0, 1, 2]],
      [64, [0, 1, 3]],
      [32, [0, 4]],
      [0, [5, 6, 7]],
    ]);
    expect(scheduler.cache).toMatchObject({ usedPages: 8, reusedTokens: 96 });
  });

  test("are found again when the sequence is over, by the next turn of the conversation", () => {
    const { add, step, scheduler } = scheduling({ tokensPerStep: 200 });
    add("a", range(40), 30);
    for (let i = 0; i < 30; i += 1) step(7);
    expect(scheduler.cache.usedPages).toBe(0);
    add("b", [...range(40), ...Array.from({ length: 30 }, () => 7), 1, 2]);
    // 69 tokens went through the model: the last one was drawn only.
    expect(step(8)?.plan.chunks[0]?.start).toBe(64);
  });

  test("that nobody uses are evicted, those used longest ago first", () => {
    const { add, step } = scheduling({ tokensPerStep: 200, pages: 6, slots: 1 });
    const start = (name: string, first: number) => {
      add(name, range(70, first), 1);
      return step(7)?.plan.chunks[0]?.start;
    };
    expect([start("a", 0), start("b", 100), start("a again", 0)]).toEqual([0, 0, 64]);
    // Three pages each: 6 are enough for two, so that the end of b goes when c comes.
    expect([start("c", 200), start("a still", 0), start("b", 100)]).toEqual([0, 64, 32]);
  });

  test("are waited for by a prompt that needs more than there are", () => {
    const { add, step, scheduler } = scheduling({ tokensPerStep: 200, pages: 7 });
    add("a", range(150), 3);
    add("b", range(100, 500), 1);
    expect(step(7)?.running).toHaveLength(1);
    expect(scheduler.waitingCount).toBe(1);
    step(7);
    step(7);
    expect(step(7)?.plan.chunks.map(({ tokens }) => tokens.length)).toEqual([100]);
  });

  test("that run out are taken from whoever came last, who goes on later", () => {
    const { add, step, scheduler, events } = scheduling({ tokensPerStep: 200, pages: 7 });
    add("a", range(95), 100);
    add("b", range(95, 500), 40);
    let steps = 0;
    while (step(7) !== undefined) steps += 1;
    expect(scheduler.cache).toMatchObject({ preemptions: 1, usedPages: 0 });
    const count = (name: string) => events[name]?.filter(({ type }) => type === "token").length;
    expect([count("a"), count("b")]).toEqual([100, 40]);
    expect(steps).toBeLessThan(150);
  });
});

describe("a sequence ends", () => {
  test("when the model says so; that token is not reported", () => {
    const { add, step, events } = scheduling();
    add("a", [1]);
    step(eos);
    expect(events["a"]).toEqual([{ type: "finish", reason: "stop" }]);
  });

  test("at maxTokens, what was emitted before counted in", () => {
    const { add, step, events, scheduler } = scheduling();
    add("a", [1], 3, [5, 6]);
    expect(chunksOf(step(7))).toEqual([[0, 0, "1 5 6", true]]);
    const length = { type: "finish", reason: "length" };
    expect(events["a"]).toEqual([{ type: "token", token: 7 }, length]);
    add("b", [1], 2, [5, 6]);
    expect(events["b"]).toEqual([length]);
    expect(scheduler.waitingCount).toBe(0);
  });

  test("at the context length", () => {
    const { add, step, events } = scheduling({ contextLength: 3 });
    add("a", [1, 2]);
    step(7);
    expect(events["a"]?.map(({ type }) => type)).toEqual(["token", "finish"]);
  });

  test("when it is cancelled: while it waits, runs, or a step is under way", () => {
    const { add, step, events, scheduler } = scheduling({ slots: 1 });
    const a = add("a", [1]);
    const b = add("b", [2]);
    scheduler.cancel(b);
    const under = scheduler.schedule();
    scheduler.cancel(a);
    scheduler.cancel(a);
    if (under !== undefined) scheduler.postprocess(under, Int32Array.of(7));
    const cancelled = [{ type: "finish", reason: "cancelled" }];
    expect(events).toEqual({ a: cancelled, b: cancelled });
    add("c", [3]);
    expect(chunksOf(step(7))).toEqual([[0, 0, "3", true]]);
  });
});

test("an order survives the wire", () => {
  const pick = { count: 40, temperature: 0.7, repetitionPenalty: 1.1, penalized: [5, 6] };
  const orders: RankOrder[] = [
    {
      kind: "step",
      plan: {
        chunks: [
          { pages: [3], start: 12, tokens: [5], pick },
          { pages: [7, 1], start: 0, tokens: [1, 2, 3] },
          { pages: [9], start: 4, tokens: [1], pick: { ...pick, penalized: [] } },
        ],
      },
    },
    { kind: "step", plan: { chunks: [] } },
    { kind: "more", draw: 2, count: 1000 },
  ];
  for (const order of orders) expect(decodeOrder(encodeOrder(order))).toEqual(order);
});
