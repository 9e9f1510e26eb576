import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startEmbeddedEngine } from "../../dataplane/engine/embedded.ts";
import type { Engine, GenerateRequest } from "../../dataplane/engine/engine.ts";
import { collect, greedy, greedySampling } from "./collect.ts";
import { type TinyCheckpoint, writeTinyCheckpoint } from "./tiny-checkpoint.ts";

/**
 * Whatever runs beside a turn, and whenever it came, it gets the tokens that it gets alone. The cache
 * is so small that turns have to make room for each other, and prompts begin alike so that they share
 * pages.
 */

const vocabulary = 101;
const contextLength = 160;
/** Two sequences of the context's length: 3 layers of 4 heads of 8, keys and values, in f32. */
const cacheBytes = 2 * contextLength * 3 * 4 * 8 * 2 * 4;

interface Turn {
  /** How many tokens of the common beginning the prompt has, and then of its own. */
  common: number;
  own: number;
  maxTokens: number;
  /** Tokens of others that come before this one starts. */
  patience: number;
  sampling: GenerateRequest["sampling"];
  scope: string;
}

const sampling = fc.record({
  temperature: fc.constantFrom(0, 0.8, 1.5),
  topK: fc.constantFrom(0, 5, 40),
  topP: fc.constantFrom(1, 0.9),
  minP: fc.constantFrom(0, 0.1),
  repetitionPenalty: fc.constantFrom(1, 1.2),
  seed: fc.nat(),
});

const turn: fc.Arbitrary<Turn> = fc.record({
  common: fc.constantFrom(0, 40, 70),
  own: fc.integer({ min: 1, max: 60 }),
  maxTokens: fc.integer({ min: 1, max: 60 }),
  patience: fc.nat(30),
  sampling,
  scope: fc.constantFrom("a", "b"),
});

function requestOf({ common, own, maxTokens, sampling, scope }: Turn): GenerateRequest {
  const beginning = Array.from({ length: common }, (_, i) => (i * 31) % vocabulary);
  const rest = Array.from({ length: own }, (_, i) => (i * own + sampling.seed) % vocabulary);
  return greedy([...beginning, ...rest], maxTokens, { sampling, cacheScope: scope });
}

/** Starts each turn when so many tokens of others have been seen, or everybody else is done. */
async function runTogether(engine: Engine, turns: readonly Turn[]) {
  const waiting = turns.map((each, index) => ({ each, index }));
  const answers: Promise<unknown>[] = [];
  let seen = 0;
  let running = 0;
  const startDue = () => {
    for (const entry of [...waiting]) {
      if (running > 0 && entry.each.patience > seen) continue;
      waiting.splice(waiting.indexOf(entry), 1);
      running += 1;
      answers[entry.index] = collect(engine, requestOf(entry.each), () => {
        seen += 1;
        startDue();
      }).then((answer) => {
        running -= 1;
        startDue();
        return answer;
      });
    }
  };
  startDue();
  while (answers.filter(Boolean).length < turns.length) {
    await Promise.race(answers.filter(Boolean));
    await new Promise((resolve) => setImmediate(resolve));
  }
  return Promise.all(answers);
}

const groups = [
  [1, "int8", "threads"],
  [2, "int8", "threads"],
  [4, "int8", "threads"],
  [2, "int8", "tcp"],
  [2, "f32", "threads"],
] as const;

describe.each(groups)("%i ranks, %s, %s", (ranks, weights, transport) => {
  let checkpoint: TinyCheckpoint;
  let crowded: Engine;
  let quiet: Engine;

  beforeAll(async () => {
    checkpoint = writeTinyCheckpoint({ keep: true });
    const options = { modelDir: checkpoint.folder, ranks, weights, transport };
    const small = { slots: 6, tokensPerStep: 24, cacheBytes };
    crowded = await startEmbeddedEngine({ ...options, ...small });
    quiet = await startEmbeddedEngine({ ...options, slots: 1, tokensPerStep: 200 });
  });

  afterAll(async () => {
    await crowded.close();
    await quiet.close();
    checkpoint.remove();
  });

  test("random batches give every turn the tokens that it gets alone", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(turn, { minLength: 2, maxLength: 10 }), async (turns) => {
        const together = await runTogether(crowded, turns);
        const alone: unknown[] = [];
        // Another scope each time: nothing is found in the cache.
        for (const [i, each] of turns.entries()) {
          const request = requestOf({ ...each, scope: `${i} of ${Math.random()}` });
          alone.push(await collect(quiet, request));
        }
        expect(together).toEqual(alone);
      }),
      { numRuns: 12, seed: 7 },
    );
    const { cache } = crowded.health();
    expect(cache.preemptions).toBeGreaterThan(0);
    expect(cache.reusedTokens).toBeGreaterThan(0);
    expect(cache.usedPages).toBe(0);
    expect(quiet.health().cache.preemptions).toBe(0);
  });
});

test("the next turn of a conversation computes only what is new", async () => {
  const { folder } = writeTinyCheckpoint();
  const options = { modelDir: folder, ranks: 2, slots: 2, tokensPerStep: 64 } as const;
  const engine = await startEmbeddedEngine({ ...options, transport: "threads" });
  const first = requestOf({
    ...{ common: 40, own: 10, maxTokens: 30, patience: 0, scope: "tenant" },
    sampling: greedySampling,
  });
  const { tokens } = await collect(engine, first);
  const steps = engine.health().steps;
  const next = [...first.promptTokens, ...tokens, 5, 6, 7];
  await collect(engine, greedy(next, 1, { cacheScope: "tenant" }));
  expect(engine.health().cache.reusedTokens).toBe(64);
  expect(engine.health().steps - steps).toBe(1);
  await collect(engine, greedy(next, 1, { cacheScope: "another tenant" }));
  expect(engine.health().cache.reusedTokens).toBe(64);
  await engine.close();
});
