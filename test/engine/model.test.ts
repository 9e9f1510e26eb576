import { describe, expect, test } from "vitest";
import { uniformAt } from "../../dataplane/engine/philox.ts";
import { argmax, largestDifference, loadModelGroup, logitsOf } from "./model-group.ts";
import { naiveLogits } from "./naive-llama.ts";
import { type TinyOptions, writeTinyCheckpoint } from "./tiny-checkpoint.ts";

function randomTokens(count: number, seed: number): number[] {
  return Array.from({ length: count }, (_, i) => Math.floor(uniformAt(seed, i) * 101));
}

describe("logits are those of a naive forward pass", () => {
  const kinds: [string, TinyOptions][] = [
    ["tied embeddings, f32", {}],
    ["untied embeddings, bf16", { config: { tie_word_embeddings: false }, dtype: "BF16" }],
    ["f16 in three files", { dtype: "F16", files: 3 }],
    ["one key/value head a query head", { config: { num_key_value_heads: 8 } }],
  ];
  test.each(kinds)("%s, on 1, 2 and 4 ranks", async (_, options) => {
    const { folder, config, weights } = writeTinyCheckpoint(options);
    const tokens = randomTokens(70, 7);
    const naive = naiveLogits(config, weights, tokens);
    for (const ranks of [1, 2, 4]) {
      const group = await loadModelGroup(folder, ranks);
      for (const length of [1, 2, 65, 70]) {
        const logits = await logitsOf(group, tokens.slice(0, length));
        const expected = naive[length - 1] ?? [];
        expect(logits.length).toBe(config.vocab_size);
        expect(largestDifference(logits, expected)).toBeLessThan(1e-3);
        expect(argmax(logits)).toBe(argmax(expected));
      }
    }
  });
});

describe.each([1, 2])("to the last bit, on %i ranks, logits do not depend on", (ranks) => {
  test("how the prompt is cut into chunks", async () => {
    const group = await loadModelGroup(writeTinyCheckpoint().folder, ranks);
    const tokens = randomTokens(140, 3);
    const whole = await logitsOf(group, tokens);
    for (const chunk of [1, 3, 64, 139]) {
      expect(await logitsOf(group, tokens, { chunk })).toEqual(whole);
    }
  });

  test("what runs in the same step, nor on the slot", async () => {
    const group = await loadModelGroup(writeTinyCheckpoint().folder, ranks);
    const sequences = Array.from({ length: 9 }, (_, i) => randomTokens(5 + 13 * i, i));
    const alone: Float32Array[] = [];
    for (const tokens of sequences) alone.push(await logitsOf(group, tokens));
    const computed = sequences.map(() => 0);
    const together: Float32Array[] = [];
    for (let step = 0; together.filter(Boolean).length < sequences.length; step += 1) {
      const chunks = sequences.flatMap((tokens, slot) => {
        const start = computed[slot] ?? 0;
        const count = Math.floor(uniformAt(99, step * 9 + slot) * 12);
        const part = tokens.slice(start, start + count);
        computed[slot] = start + part.length;
        const wantsLogits = start + part.length === tokens.length;
        return part.length > 0 ? [{ slot: 20 - slot, start, tokens: part, wantsLogits }] : [];
      });
      const rows = await group.forward({ released: [], chunks });
      chunks
        .filter((chunk) => chunk.wantsLogits)
        .forEach((chunk, i) => {
          together[20 - chunk.slot] = rows[i] ?? new Float32Array();
        });
    }
    expect(together).toEqual(alone);
  });
});

test("a slot starts afresh at position 0, and after its release", async () => {
  const group = await loadModelGroup(writeTinyCheckpoint().folder, 1);
  const first = await logitsOf(group, [5, 6, 7]);
  await logitsOf(group, randomTokens(100, 1));
  expect(await logitsOf(group, [5, 6, 7])).toEqual(first);
  await group.forward({ released: [0], chunks: [] });
  const chunk = { slot: 0, start: 3, tokens: [8], wantsLogits: true };
  const promise = group.forward({ released: [], chunks: [chunk] });
  await expect(promise).rejects.toMatchObject({ code: "internal" });
});

test("heads that cannot be split evenly are refused with the reason", async () => {
  const { folder } = writeTinyCheckpoint({ config: { num_key_value_heads: 2 } });
  await expect(loadModelGroup(folder, 4)).rejects.toMatchObject({
    code: "unsupported_model",
    message: expect.stringContaining("2 key/value heads cannot be split evenly over 4 ranks"),
  });
});
