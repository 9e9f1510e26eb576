import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import {
  type EmbeddedEngineOptions,
  startEmbeddedEngine,
} from "../../dataplane/engine/embedded.ts";
import type { GenerateRequest } from "../../dataplane/engine/engine.ts";
import { uniformAt } from "../../dataplane/engine/philox.ts";
import { collect, greedy, greedySampling } from "./collect.ts";
import { writeTinyCheckpoint } from "./tiny-checkpoint.ts";

async function start(modelDir: string, ranks: number, more: Partial<EmbeddedEngineOptions> = {}) {
  const engine = await startEmbeddedEngine({
    modelDir,
    ranks,
    transport: "tcp",
    slots: 4,
    tokensPerStep: 16,
    ...more,
  });
  onTestFinished(() => engine.close());
  return engine;
}

function prompt(length: number, seed: number): number[] {
  return Array.from({ length }, (_, i) => Math.floor(uniformAt(seed, i) * 101));
}

const lively = { ...greedySampling, temperature: 0.9, topK: 40, topP: 0.95, seed: 1234 };

test("greedy answers are the same on 1, 2 and 4 ranks, processes or threads", async () => {
  const { folder } = writeTinyCheckpoint();
  const answers: number[][][] = [];
  for (const [ranks, transport] of [
    [1, "tcp"],
    [2, "tcp"],
    [4, "tcp"],
    [2, "threads"],
    [4, "threads"],
  ] as const) {
    const engine = await start(folder, ranks, { transport, weights: "f32" });
    const requests = [3, 20, 50].map((length) => greedy(prompt(length, length), 40));
    const all = await Promise.all(requests.map((request) => collect(engine, request)));
    answers.push(all.map(({ tokens }) => tokens));
    await engine.close();
  }
  expect(answers[0]?.map((tokens) => tokens.length)).toEqual([40, 40, 40]);
  for (const others of answers) expect(others).toEqual(answers[0]);
});

describe.each([
  [1, "f32"],
  [1, "int8"],
  [2, "f32"],
  [2, "int8"],
] as const)("on %i ranks with %s weights", (ranks, weights) => {
  test("an answer does not depend on what runs beside it", async () => {
    const engine = await start(writeTinyCheckpoint().folder, ranks, { weights });
    const requests = Array.from({ length: 10 }, (_, i): GenerateRequest => {
      return greedy(prompt(1 + i * 9, i), 12 + i, { sampling: { ...lively, seed: i } });
    });
    const alone: unknown[] = [];
    for (const request of requests) alone.push(await collect(engine, request));
    // Each starts when its forerunner has said a few tokens: more than there are slots.
    const started: Promise<unknown>[] = [];
    let next = 0;
    const startNext = () => {
      const request = requests[next];
      next += 1;
      if (request === undefined) return;
      const patience = Math.floor(uniformAt(7, next) * 5);
      started.push(collect(engine, request, (count) => count === patience + 1 && startNext()));
    };
    startNext();
    for (let i = 0; i < requests.length; i += 1) await started[i];
    expect(await Promise.all(started)).toEqual(alone);
    expect(engine.health()).toMatchObject({ runningTurns: 0, waitingTurns: 0, state: "ready" });
  });

  test("what was emitted elsewhere is continued with the same tokens", async () => {
    const engine = await start(writeTinyCheckpoint().folder, ranks, { weights });
    const repeating = { ...lively, repetitionPenalty: 1.3, minP: 0.05, topK: 0 };
    for (const sampling of [{ ...lively, temperature: 0 }, lively, repeating]) {
      const whole = await collect(engine, greedy(prompt(30, 5), 40, { sampling }));
      for (const cut of [1, 17, 39]) {
        const emittedTokens = whole.tokens.slice(0, cut);
        const request = greedy(prompt(30, 5), 40, { sampling, emittedTokens });
        const rest = await collect(engine, request);
        expect([...emittedTokens, ...rest.tokens]).toEqual(whole.tokens);
        expect(rest.finish).toBe("length");
      }
    }
  });
});

describe("an answer ends", () => {
  test("at a token that ends it, which is not reported", async () => {
    const { folder } = writeTinyCheckpoint();
    const [first] = [await start(folder, 1)];
    const { tokens } = await collect(first, greedy(prompt(9, 1), 30));
    const end = tokens[12] ?? 0;
    writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ eos_token_id: [end] }));
    const engine = await start(folder, 1);
    expect(engine.describe().eosTokens).toEqual([end]);
    const stopped = await collect(engine, greedy(prompt(9, 1), 30));
    expect(stopped).toEqual({ tokens: tokens.slice(0, tokens.indexOf(end)), finish: "stop" });
  });

  test("at the context length", async () => {
    const engine = await start(writeTinyCheckpoint().folder, 1);
    const { tokens, finish } = await collect(engine, greedy(prompt(150, 1), 1000));
    expect([tokens.length, finish]).toEqual([10, "length"]);
  });

  test("within a step of its signal, and its slot serves the next", async () => {
    const engine = await start(writeTinyCheckpoint().folder, 2, { slots: 1 });
    const controller = new AbortController();
    let stepsAtAbort = 0;
    const first = collect(
      engine,
      greedy(prompt(5, 1), 150, { signal: controller.signal }),
      (count) => {
        if (count !== 5) return;
        stepsAtAbort = engine.health().steps;
        controller.abort();
      },
    );
    const waiting = new AbortController();
    const second = collect(engine, greedy(prompt(5, 2), 3, { signal: waiting.signal }));
    const third = collect(engine, greedy(prompt(5, 3), 3));
    waiting.abort();
    expect(await second).toEqual({ tokens: [], finish: "cancelled" });
    const aborted = await first;
    expect([aborted.tokens.length, aborted.finish]).toEqual([5, "cancelled"]);
    expect(engine.health().steps - stepsAtAbort).toBeLessThanOrEqual(2);
    expect((await third).finish).toBe("length");
    const already = greedy(prompt(5, 2), 3, { signal: AbortSignal.abort() });
    expect(await collect(engine, already)).toEqual({ tokens: [], finish: "cancelled" });
  });

  test("when its reader walks away", async () => {
    const engine = await start(writeTinyCheckpoint().folder, 1);
    for await (const event of engine.generate(greedy(prompt(5, 1), 150))) {
      if (event.type === "token") break;
    }
    expect(engine.health().runningTurns).toBe(0);
  });
});

describe("what cannot be is refused before anything runs", () => {
  test.each([
    ["a prompt as long as the context", greedy(prompt(160, 1), 1), "prompt_too_long"],
    ["no prompt", greedy([], 1), "invalid_request"],
    ["a token that there is not", greedy([101], 1), "invalid_request"],
    ["half a token", greedy([1.5], 1), "invalid_request"],
    ["nothing to say", greedy([1], 0), "invalid_request"],
    [
      "a negative temperature",
      greedy([1], 1, { sampling: { ...lively, temperature: -1 } }),
      "invalid_request",
    ],
    ["an empty nucleus", greedy([1], 1, { sampling: { ...lively, topP: 0 } }), "invalid_request"],
  ])("%s", async (_, request, code) => {
    const engine = await start(writeTinyCheckpoint().folder, 1);
    await expect(collect(engine, request)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(request.id),
    });
    expect(engine.health().steps).toBe(0);
  });

  test.each([
    ["a model that is not there", "/nowhere", 1, {}, "invalid_checkpoint"],
    ["more ranks than heads", undefined, 9, {}, "unsupported_model"],
    ["no ranks", undefined, 0, {}, "invalid_request"],
    ["a cache too small for one", undefined, 1, { cacheBytes: 10_000 }, "invalid_request"],
    ["slots that cannot all decode", undefined, 1, { slots: 17 }, "invalid_request"],
  ])("%s", async (_, folder, ranks, more, code) => {
    const attempt = start(folder ?? writeTinyCheckpoint().folder, ranks, more);
    await expect(attempt).rejects.toMatchObject({ code });
  });
});

test.each(["tcp", "threads"] as const)(
  "an engine that is closed says so, to those that run and those that come (%s)",
  async (transport) => {
    const engine = await start(writeTinyCheckpoint().folder, 2, { transport });
    const running = collect(engine, greedy(prompt(5, 1), 150), (count) => {
      if (count === 3) void engine.close();
    });
    await expect(running).rejects.toMatchObject({ code: "closed" });
    await engine.close();
    await expect(collect(engine, greedy([1], 1))).rejects.toMatchObject({ code: "closed" });
    expect(engine.health()).toMatchObject({ state: "closed" });
    expect(engine.health().ranks.some(({ alive }) => alive)).toBe(false);
  },
);

test("an engine describes its model", async () => {
  const engine = await start(writeTinyCheckpoint().folder, 1, { contextLength: 50 });
  expect(engine.describe()).toMatchObject({
    architecture: "LlamaForCausalLM",
    parameters: 3 * (32 * 32 * 6 + 2 * 32 + 3 * 32 * 48) + 32 * 101 + 32,
    contextLength: 50,
    vocabularySize: 101,
    ranks: 1,
    slots: 4,
    fingerprint: expect.stringMatching(/^[0-9a-f]{64}$/),
  });
});
