/**
 * Drawing a token without gathering all logits: each rank picks the likeliest of its own tokens, and
 * what the rest of them weigh together; rank 0 merges that, a few numbers from each rank.
 */

import type { Kernels } from "./kernels/kernels.ts";
import type { Pick } from "./step-plan.ts";

/** The likeliest tokens of the whole vocabulary. */
export interface Candidates {
  /** Likeliest first; of equal logits the lower token id. */
  tokens: number[];
  /** The logits of `tokens`, penalties applied. */
  logits: number[];
  /** Σ exp((logit − logits[0]) / temperature) over the whole vocabulary; 0 when greedy. */
  mass: number;
  /** Whether there are no other tokens. */
  isAll: boolean;
}

/** Applies a repetition penalty (Keskar et al., "CTRL", 2019) to a rank's logits, in place. */
export function penalize(
  logits: Float32Array,
  firstToken: number,
  { penalized, repetitionPenalty }: Pick,
): void {
  for (const token of penalized) {
    const logit = logits[token - firstToken];
    if (logit === undefined) continue;
    logits[token - firstToken] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
  }
}

/**
 * A rank's part, [2 + 2·count] f32: its largest logit, its mass (relative to that), and its likeliest
 * tokens as pairs of token id and logit. Missing ones have the id −1. Ids stay below 2²⁴, and so are
 * exact.
 */
export function packCandidates(
  kernels: Kernels,
  logits: Float32Array,
  firstToken: number,
  { count, temperature }: Pick,
): Float32Array {
  const packed = new Float32Array(2 + 2 * count).fill(-1);
  const most = logits.length === 0 ? Number.NEGATIVE_INFINITY : kernels.largest(logits);
  packed[0] = most;
  packed[1] = temperature > 0 && logits.length > 0 ? kernels.mass(logits, most, temperature) : 0;
  likeliest(logits, most, count).forEach((index, i) => {
    packed[2 + 2 * i] = firstToken + index;
    packed[3 + 2 * i] = logits[index] as number;
  });
  return packed;
}

/** Indexes of the `count` largest logits, the largest first. */
function likeliest(logits: Float32Array, most: number, count: number): number[] {
  if (count === 1 && logits.length > 0) return [Math.max(0, logits.indexOf(most))];
  const byLogit = (a: number, b: number) => (logits[b] as number) - (logits[a] as number) || a - b;
  // Sorting all of them is avoided by looking ever further below the largest.
  for (let depth = 2; Number.isFinite(depth); depth *= 2) {
    const found: number[] = [];
    const least = most - depth;
    for (let i = 0; i < logits.length; i += 1) {
      if ((logits[i] as number) >= least) found.push(i);
    }
    if (found.length >= count) return found.sort(byLogit).slice(0, count);
    if (found.length === logits.length) return found.sort(byLogit);
  }
  return Array.from(logits.keys()).sort(byLogit).slice(0, count);
}

/** The parts of all ranks, [ranks, 2 + 2·count], put together. */
export function mergeCandidates(
  parts: Float32Array,
  vocabularySize: number,
  { count, temperature }: Pick,
): Candidates {
  const length = 2 + 2 * count;
  const pairs: [token: number, logit: number][] = [];
  let most = Number.NEGATIVE_INFINITY;
  for (let at = 0; at < parts.length; at += length) {
    const largest = parts[at] as number;
    // NaN stays NaN, for whoever draws to find.
    most = Math.max(most, largest);
    for (let i = at + 2; i < at + length && (parts[i] as number) >= 0; i += 2) {
      pairs.push([parts[i] as number, parts[i + 1] as number]);
    }
  }
  pairs.sort(([tokenA, a], [tokenB, b]) => b - a || tokenA - tokenB);
  // Beyond `count` a rank may have left out a likelier one.
  const kept = pairs.slice(0, count);
  let mass = 0;
  for (let at = 0; at < parts.length && temperature > 0; at += length) {
    const share = parts[at + 1] as number;
    if (share > 0) mass += share * Math.exp(((parts[at] as number) - most) / temperature);
  }
  return {
    tokens: kept.map(([token]) => token),
    logits: Number.isNaN(most) ? [most] : kept.map(([, logit]) => logit),
    mass,
    isAll: kept.length === vocabularySize,
  };
}
