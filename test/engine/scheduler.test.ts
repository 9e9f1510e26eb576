import { describe, expect, test } from "vitest";
import type { EngineEvent } from "../../dataplane/engine/engine.ts";
import { Scheduler, type SchedulerLimits, type Step } from "../../dataplane/engine/scheduler.ts";
import { decodePlan, encodePlan } from "../../dataplane/engine/step-plan.ts";
import { greedy } from "./collect.ts";

const eos = 99;

function scheduling(limits: Partial<SchedulerLimits> = {}) {
  const scheduler = new Scheduler({
    slots: 2,
    tokensPerStep: 4,
    contextLength: 20,
    eosTokens: [eos],
    ...limits,
  });
  const events: Record<string, EngineEvent[]> = {};
  const add = (
    name: string,
    promptTokens: number[],
    maxTokens = 9,
    emittedTokens: number[] = [],
  ) => {
    const heard: EngineEvent[] = [];
    events[name] = heard;
    const request = greedy(promptTokens, maxTokens, { emittedTokens });
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

const chunksOf = (step: Step | undefined) =>
  step?.plan.chunks.map(({ slot, start, tokens, wantsLogits }) => {
    return [slot, start, tokens.join(" "), wantsLogits];
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
    const next = step(8);
    expect(next?.plan.released).toEqual([0]);
    expect(chunksOf(next)).toEqual([
      [1, 1, "7", true],
      [0, 0, "3", true],
    ]);
  });

  test("releases the last slot, and then there is none", () => {
    const { add, step } = scheduling();
    add("a", [1], 1);
    step(7);
    expect(step(7)?.plan).toEqual({ released: [0], chunks: [] });
    expect(step(7)).toBeUndefined();
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
    const next = step(7);
    expect(next?.plan.released).toEqual([0]);
    expect(chunksOf(next)).toEqual([[0, 0, "3", true]]);
  });
});

test("a plan survives the wire", () => {
  const plan = {
    released: [3, 1],
    chunks: [
      { slot: 0, start: 12, tokens: [5], wantsLogits: true },
      { slot: 7, start: 0, tokens: [1, 2, 3], wantsLogits: false },
    ],
  };
  expect(decodePlan(encodePlan(plan))).toEqual(plan);
  const empty = { released: [], chunks: [] };
  expect(decodePlan(encodePlan(empty))).toEqual(empty);
});
