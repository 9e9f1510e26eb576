import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { WasmKernels } from "../../dataplane/engine/kernels/wasm-kernels.ts";
import { loadTokenizer } from "../../dataplane/tokenizer.ts";
import { perplexity, relativeError } from "./accuracy.ts";
import { loadModelGroup, logitsOf } from "./model-group.ts";

/** What int8 weights cost: the bundled model beside itself in f32. */

const folder = resolve(import.meta.dirname, "../../models/axon-guide");
const text = readFileSync(join(import.meta.dirname, "perplexity-text.md"), "utf8");
describe.each([1, 2])("the bundled model in int8 on %i ranks", (ranks) => {
  test("has the logits of f32 to within 2 %, and its perplexity to within 1 %", async () => {
    const tokenizer = await loadTokenizer(folder);
    const tokens = tokenizer.encodeChat([{ role: "user", content: text }]).slice(0, 500);
    expect(tokens.length).toBeGreaterThan(300);
    const f32 = await loadModelGroup(folder, 1);
    const int8 = await loadModelGroup(folder, ranks, () => new WasmKernels());
    for (const length of [5, 60, 300]) {
      const some = tokens.slice(0, length);
      const error = relativeError(await logitsOf(int8, some), await logitsOf(f32, some));
      expect(error).toBeLessThan(2e-2);
      expect(error).toBeGreaterThan(0);
    }
    const [exact, quantized] = [await perplexity(f32, tokens), await perplexity(int8, tokens)];
    expect(exact).toBeGreaterThan(1);
    expect(Math.abs(quantized / exact - 1)).toBeLessThan(0.01);
  });
});
