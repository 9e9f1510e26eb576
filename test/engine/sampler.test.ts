import { describe, expect, test } from "vitest";
import { mergeCandidates, packCandidates, penalize } from "../../dataplane/engine/candidates.ts";
import { ReferenceKernels } from "../../dataplane/engine/kernels/reference/reference-kernels.ts";
import { philox4x32, uniformAt } from "../../dataplane/engine/philox.ts";
import { type Draw, drawToken, pickFor } from "../../dataplane/engine/sampler.ts";
import { greedySampling } from "./collect.ts";

describe("Philox4x32-10 gives its authors' numbers", () => {
  // kat_vectors of the Random123 distribution.
  const all = 0xffffffff;
  test.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [all, all, all, all],
      [all, all],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ] as const)("%j under %j", (counter, key, expected) => {
    expect(philox4x32(counter, key)).toEqual(expected);
  });

  test("as uniform numbers in [0, 1)", () => {
    const numbers = Array.from({ length: 10_000 }, (_, position) => uniformAt(42, position));
    expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...numbers)).toBeLessThan(1);
    expect(numbers.reduce((sum, number) => sum + number) / 10_000).toBeCloseTo(0.5, 2);
    expect(uniformAt(2 ** 32, 0)).not.toBe(uniformAt(0, 0));
  });
});

const likely: Draw = { ...greedySampling, temperature: 1, seed: 5, position: 0 };

/** Draws as a group does: each of `ranks` has a part of the vocabulary, and is asked for more. */
function draw(logits: readonly number[], sampling: Draw, ranks = 1, usedTokens: number[] = []) {
  const kernels = new ReferenceKernels();
  const slice = Math.ceil(logits.length / ranks);
  const slices = Array.from({ length: ranks }, (_, rank) => {
    return Float32Array.from(logits.slice(rank * slice, (rank + 1) * slice));
  });
  const first = pickFor(sampling, usedTokens);
  slices.forEach((own, rank) => {
    penalize(own, rank * slice, first);
  });
  for (let count = first.count; ; count *= 4) {
    const pick = { ...first, count };
    const parts = slices.map((own, rank) => packCandidates(kernels, own, rank * slice, pick));
    const packed = Float32Array.from(parts.flatMap((part) => [...part]));
    const token = drawToken(mergeCandidates(packed, logits.length, pick), sampling);
    if (token !== undefined) return { token, count };
  }
}

/** How often each token is drawn, over so many positions. */
function frequencies(logits: number[], sampling: Partial<Draw>, ranks = 1, draws = 20_000) {
  const counts = logits.map(() => 0);
  for (let position = 0; position < draws; position += 1) {
    const { token } = draw(logits, { ...likely, ...sampling, position }, ranks);
    counts[token] = (counts[token] ?? 0) + 1;
  }
  return counts.map((count) => count / draws);
}

describe("a token is drawn", () => {
  const logits = [Math.log(0.1), Math.log(0.5), Math.log(0.15), Math.log(0.25)];

  test("greedily at temperature 0, the lowest id of equals, whoever has it", () => {
    for (const ranks of [1, 2, 4]) {
      expect(draw([1, 3, 3, 2], { ...likely, temperature: 0 }, ranks).token).toBe(1);
      expect(draw([1, 2, 3, 3], { ...likely, temperature: 0 }, ranks).token).toBe(2);
    }
  });

  test.each([
    ["by its probability", {}, [0.1, 0.5, 0.15, 0.25]],
    ["more evenly at a high temperature", { temperature: 1e6 }, [0.25, 0.25, 0.25, 0.25]],
    ["among the top k", { topK: 2 }, [0, 2 / 3, 0, 1 / 3]],
    ["among more than there are", { topK: 9 }, [0.1, 0.5, 0.15, 0.25]],
    ["among the nucleus", { topP: 0.8 }, [0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9]],
    ["from a nucleus of one", { topP: 0.01 }, [0, 1, 0, 0]],
    ["among the nucleus of the top k", { topK: 3, topP: 0.8 }, [0, 2 / 3, 0, 1 / 3]],
    ["among those likely enough", { minP: 0.4 }, [0, 2 / 3, 0, 1 / 3]],
    [
      "by the strictest of all rules",
      { minP: 0.25, topK: 3, topP: 0.99 },
      [0, 0.556, 0.167, 0.278],
    ],
  ])("%s", (_, sampling, expected) => {
    for (const ranks of [1, 2]) {
      const found = frequencies(logits, sampling, ranks);
      expected.forEach((probability, token) => {
        expect(found[token]).toBeCloseTo(probability, 1);
        if (probability === 0) expect(found[token]).toBe(0);
      });
    }
  });

  test("less likely when it was there before", () => {
    const sampling = { ...likely, temperature: 0, repetitionPenalty: 2 };
    expect(draw([1, 3, 2, -1], sampling, 2, [1]).token).toBe(2);
    expect(draw([-2, -1.5, -3, -1], sampling, 2, [3, 3]).token).toBe(1);
  });

  test("among equals by id, and far tails count too", () => {
    expect(frequencies([0, 0, 0, 0], { topK: 2 }).slice(2)).toEqual([0, 0]);
    const flat = Array.from({ length: 500 }, (_, i) => -i / 10);
    const nucleus = frequencies(flat, { topP: 0.9999 }, 1, 4000);
    expect(nucleus[0]).toBeCloseTo(1 - Math.exp(-0.1), 1);
  });

  test("from beyond the first candidates, when that is where it is", () => {
    const even = Array.from({ length: 700 }, () => 0);
    const found = [0, 1, 2, 3, 4, 5, 6, 7].map((position) =>
      draw(even, { ...likely, position }, 2),
    );
    expect(Math.max(...found.map(({ token }) => token))).toBeGreaterThan(64);
    expect(Math.max(...found.map(({ count }) => count))).toBeGreaterThan(64);
    for (const { token } of found) expect(token).toBeLessThan(700);
  });

  test("the same on any number of ranks", () => {
    const many = Array.from({ length: 1000 }, (_, i) => 6 * uniformAt(3, i));
    for (let position = 0; position < 50; position += 1) {
      const sampling = { ...likely, topP: 0.95, minP: 0.001, position };
      const tokens = [1, 2, 3].map((ranks) => draw(many, sampling, ranks).token);
      expect(new Set(tokens).size).toBe(1);
    }
  });

  test("the same for the same seed and position, another for another", () => {
    const draws = (seed: number) =>
      Array.from(
        { length: 30 },
        (_, position) => draw(logits, { ...likely, seed, position }).token,
      );
    expect(draws(1)).toEqual(draws(1));
    expect(draws(1)).not.toEqual(draws(2));
  });

  test.each([{ temperature: 0 }, { topK: 3 }, {}])(
    "never from numbers that are none: %j",
    (how) => {
      const attempt = () => draw([Number.NaN, 1, 2, 3], { ...likely, ...how }, 2);
      expect(attempt).toThrow(expect.objectContaining({ code: "internal" }));
    },
  );
});
