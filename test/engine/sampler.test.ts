import { describe, expect, test } from "vitest";
import { philox4x32, uniformAt } from "../../dataplane/engine/philox.ts";
import { type Draw, drawToken } from "../../dataplane/engine/sampler.ts";

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

const likely: Draw = { temperature: 1, topK: 0, topP: 1, seed: 5, position: 0 };

/** How often each token is drawn, over 20,000 positions. */
function frequencies(logits: number[], draw: Partial<Draw>): number[] {
  const counts = logits.map(() => 0);
  for (let position = 0; position < 20_000; position += 1) {
    const token = drawToken(new Float32Array(logits), { ...likely, ...draw, position });
    counts[token] = (counts[token] ?? 0) + 1;
  }
  return counts.map((count) => count / 20_000);
}

describe("a token is drawn", () => {
  const logits = [Math.log(0.1), Math.log(0.5), Math.log(0.15), Math.log(0.25)];

  test("greedily at temperature 0, the lowest id of equals", () => {
    expect(drawToken(new Float32Array([1, 3, 3, 2]), { ...likely, temperature: 0 })).toBe(1);
  });

  test.each([
    ["by its probability", {}, [0.1, 0.5, 0.15, 0.25]],
    ["more evenly at a high temperature", { temperature: 1e6 }, [0.25, 0.25, 0.25, 0.25]],
    ["among the top k", { topK: 2 }, [0, 2 / 3, 0, 1 / 3]],
    ["among more than there are", { topK: 9 }, [0.1, 0.5, 0.15, 0.25]],
    ["among the nucleus", { topP: 0.8 }, [0, 0.5 / 0.9, 0.15 / 0.9, 0.25 / 0.9]],
    ["from a nucleus of one", { topP: 0.01 }, [0, 1, 0, 0]],
    ["among the nucleus of the top k", { topK: 3, topP: 0.8 }, [0, 2 / 3, 0, 1 / 3]],
  ])("%s", (_, draw, expected) => {
    const found = frequencies(logits, draw);
    expected.forEach((probability, token) => {
      expect(found[token]).toBeCloseTo(probability, 1);
      if (probability === 0) expect(found[token]).toBe(0);
    });
  });

  test("among equals by id, and far tails count too", () => {
    expect(frequencies([0, 0, 0, 0], { topK: 2 }).slice(2)).toEqual([0, 0]);
    const flat = Array.from({ length: 500 }, (_, i) => -i / 10);
    const nucleus = frequencies(flat, { topP: 0.9999 });
    expect(nucleus[0]).toBeCloseTo(1 - Math.exp(-0.1), 1);
  });

  test("the same for the same seed and position, another for another", () => {
    const draws = (seed: number) =>
      Array.from({ length: 30 }, (_, position) =>
        drawToken(new Float32Array(logits), { ...likely, seed, position }),
      );
    expect(draws(1)).toEqual(draws(1));
    expect(draws(1)).not.toEqual(draws(2));
  });

  test("never from numbers that are none", () => {
    const draw = () => drawToken(new Float32Array([Number.NaN, 1]), likely);
    expect(draw).toThrow(expect.objectContaining({ code: "internal" }));
  });
});
