import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { startEmbeddedEngine } from "../../dataplane/engine/embedded.ts";
import { collect, greedy } from "./collect.ts";
import { argmax, chunkOf, largestDifference, loadModelGroup, logitsOf } from "./model-group.ts";

/** The bundled model against what JAX computes from the same weights (models/reference.py). */

interface Reference {
  sequences: {
    ids: number[];
    argmax: number[];
    top5: [number, number][][];
    last: number[];
  }[];
  greedy: { promptIds: number[]; ids: number[]; text: string }[];
}

const folder = resolve(import.meta.dirname, "../../models/axon-guide");
let reference: Reference;
beforeAll(() => {
  reference = JSON.parse(readFileSync(join(folder, "reference.json"), "utf8"));
});

describe.each([1, 2, 4])("on %i ranks", (ranks) => {
  test("logits are the reference's", async () => {
    const group = await loadModelGroup(folder, ranks);
    expect(reference.sequences.length).toBeGreaterThan(0);
    for (const { ids, argmax: best, top5, last } of reference.sequences) {
      const logits = await logitsOf(group, ids);
      expect(largestDifference(logits, last)).toBeLessThan(2e-2);
      // Token by token, as in decoding, so that every position can be looked at.
      for (const [position, token] of ids.entries()) {
        const chunk = chunkOf(0, position, [token], true);
        const [row = logits] = await group.forward({ chunks: [chunk] });
        expect(argmax(row)).toBe(best[position]);
        const expected = top5[position] ?? [];
        const found = expected.map(([id]) => row[id] ?? 0);
        const difference = largestDifference(
          found,
          expected.map(([, logit]) => logit),
        );
        expect(difference).toBeLessThan(2e-2);
      }
    }
  });
});

describe.each([1, 2])("with %i ranks as the engine runs them", (ranks) => {
  test("greedy answers are the reference's, to the token", async () => {
    const engine = await startEmbeddedEngine({
      modelDir: folder,
      ranks,
      transport: "tcp",
      slots: 16,
      tokensPerStep: 64,
      weights: "f32",
    });
    const answers = await Promise.all(
      reference.greedy.map(({ promptIds }) => collect(engine, greedy(promptIds, 200))),
    );
    await engine.close();
    expect(answers.map(({ tokens }) => tokens)).toEqual(reference.greedy.map(({ ids }) => ids));
    expect(new Set(answers.map(({ finish }) => finish))).toEqual(new Set(["stop"]));
  });
});
