import { describe, expect, test } from "vitest";
import { uniformAt } from "../../dataplane/engine/philox.ts";
import { argmax, chunkOf, largestDifference, loadModelGroup, logitsOf } from "./model-group.ts";
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
    ["fewer key/value heads than ranks", { config: { num_key_value_heads: 2 } }],
    [
      "heads that no number of ranks divides",
      { config: { num_attention_heads: 9, num_key_value_heads: 3 } },
    ],
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
      const drawing: number[] = [];
      const chunks = sequences.flatMap((tokens, slot) => {
        const start = computed[slot] ?? 0;
        const count = Math.floor(uniformAt(99, step * 9 + slot) * 12);
        const part = tokens.slice(start, start + count);
        computed[slot] = start + part.length;
        const isLast = start + part.length === tokens.length;
        if (isLast && part.length > 0) drawing.push(slot);
        return part.length > 0 ? [chunkOf(18 - slot, start, part, isLast)] : [];
      });
      const rows = await group.forward({ chunks });
      drawing.forEach((slot, i) => {
        together[slot] = rows[i] ?? new Float32Array();
      });
    }
    expect(together).toEqual(alone);
  });
});

test("more ranks than heads are refused with the reason", async () => {
  const { folder } = writeTinyCheckpoint({
    config: { num_attention_heads: 2, num_key_value_heads: 1 },
  });
  await expect(loadModelGroup(folder, 4)).rejects.toMatchObject({
    code: "unsupported_model",
    message: expect.stringContaining("2 attention heads cannot be split over 4 ranks"),
  });
});
