import { chunkOf, type ModelGroup } from "./model-group.ts";

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
  const difference = found.map((value, i) => value - (expected[i] ?? 0));
  return rootMeanSquare(difference) / rootMeanSquare(expected);
}

export function rootMeanSquare(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0) / values.length);
}
