import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { WasmKernels } from "../../dataplane/engine/kernels/wasm-kernels.ts";
import { loadTokenizer } from "../../dataplane/tokenizer.ts";
import { chunkOf, loadModelGroup, logitsOf, type ModelGroup } from "./model-group.ts";

/** What int8 weights cost: the bundled model beside itself in f32. */

const folder = resolve(import.meta.dirname, "../../models/axon-guide");
const text = readFileSync(join(import.meta.dirname, "perplexity-text.md"), "utf8");
/** Rows of one step; each is a chunk of its own, so that the logits of every position come back. */
const rowsPerStep = 128;

/** exp of the mean negative log likelihood of each token after those before it. */
export async function perplexity(group: ModelGroup, tokens: readonly number[]): Promise<number> {
  let sum = 0;
  for (let first = 0; first < tokens.length - 1; first += rowsPerStep) {
    const rows = tokens.slice(first, Math.min(first + rowsPerStep, tokens.length - 1));
    const chunks = rows.map((token, i) => chunkOf(0, first + i, [token], true));
    const logits = await group.forward({ chunks });
    logits.forEach((row, i) => {
      const most = row.reduce((a, b) => Math.max(a, b));
      const mass = row.reduce((total, logit) => total + Math.exp(logit - most), 0);
      sum += most + Math.log(mass) - (row[tokens[first + i + 1] ?? 0] ?? 0);
    });
  }
  return Math.exp(sum / (tokens.length - 1));
}

/** Root mean square of the difference, as a share of that of `expected`. */
export function relativeError(found: Float32Array, expected: Float32Array): number {
  const squares = (values: Float32Array) => values.reduce((sum, value) => sum + value ** 2, 0);
  const difference = found.map((value, i) => value - (expected[i] ?? 0));
  return Math.sqrt(squares(difference) / squares(expected));
}

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
