import { Tokenizer } from "@huggingface/tokenizers";
import { describe, expect, test } from "vitest";
import { startEmbeddedEngine } from "../../dataplane/engine/embedded.ts";
import { WasmKernels } from "../../dataplane/engine/kernels/wasm-kernels.ts";
import { loadTokenizer } from "../../dataplane/tokenizer.ts";
import { readTokenizerFiles } from "../../dataplane/tokenizer-files.ts";
import {
  differenceFromReference,
  perplexityText,
  smollm2IsMissing,
  smollm2Path,
  smollm2Reference,
} from "../support/smollm2.ts";
import { perplexity, relativeError, rootMeanSquare } from "./accuracy.ts";
import { collect, greedy } from "./collect.ts";
import { argmax, loadModelGroup, logitsOf } from "./model-group.ts";

/** A real checkpoint against what PyTorch computes from it in f32. */

const path = smollm2Path ?? "";

describe.skipIf(smollm2IsMissing())("SmolLM2-135M-Instruct", () => {
  const { prompts, spreadEvery, perplexityText: expected } = smollm2Reference();

  test.each([1, 2])("has the reference's logits in f32, on %i ranks", async (ranks) => {
    const group = await loadModelGroup(path, ranks);
    for (const prompt of ranks === 1 ? prompts : prompts.slice(0, 2)) {
      const logits = await logitsOf(group, prompt.tokens);
      expect(differenceFromReference(logits, prompt, spreadEvery)).toBeLessThan(1e-4);
      expect(argmax(logits)).toBe(prompt.topTokens[0]);
    }
  });

  test.each([1, 2])("has them in int8 to within 2 % of the largest, on %i ranks", async (ranks) => {
    const group = await loadModelGroup(path, ranks, () => new WasmKernels());
    for (const { tokens, topTokens, topLogits, spread } of prompts) {
      const logits = await logitsOf(group, tokens);
      const found = Float32Array.from(spread, (_, i) => logits[i * spreadEvery] ?? 0);
      const expectedLogits = Float32Array.from(spread);
      const largest = Math.max(...topLogits.map(Math.abs));
      const difference = relativeError(found, expectedLogits) * rootMeanSquare(expectedLogits);
      expect(difference / largest).toBeLessThan(2e-2);
      // Of tokens that are all but equally likely, another one may come first.
      const chosen = topLogits[topTokens.indexOf(argmax(logits))] ?? Number.NaN;
      expect(((topLogits[0] ?? 0) - chosen) / largest).toBeLessThan(2e-2);
    }
  });

  test("has the reference's perplexity in int8, to within 1 %", async () => {
    const { json, config } = await readTokenizerFiles(path);
    const tokenizer = new Tokenizer(json, config);
    const { ids } = tokenizer.encode(perplexityText(), { add_special_tokens: false });
    expect(ids.length).toBe(expected.tokens);
    const group = await loadModelGroup(path, 1, () => new WasmKernels());
    const found = await perplexity(group, ids);
    expect(Math.abs(found / expected.perplexity - 1)).toBeLessThan(0.01);
  });

  test("answers a question", async () => {
    const tokenizer = await loadTokenizer(path);
    const options = { modelDir: path, ranks: 2, slots: 2, tokensPerStep: 128 } as const;
    const engine = await startEmbeddedEngine({ ...options, transport: "threads" });
    const question = "What is the capital of France? Answer in one sentence.";
    const promptTokens = tokenizer.encodeChat([{ role: "user", content: question }]);
    const { tokens, finish } = await collect(engine, greedy(promptTokens, 60));
    await engine.close();
    const detokenizer = tokenizer.detokenizer();
    const text = tokens.map((token) => detokenizer.push(token)).join("") + detokenizer.flush();
    expect(text).toContain("Paris");
    expect(finish).toBe("stop");
  });
});
