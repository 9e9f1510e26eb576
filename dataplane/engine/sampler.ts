import type { Candidates } from "./candidates.ts";
import type { Sampling } from "./engine.ts";
import { EngineError } from "./engine-error.ts";
import { uniformAt } from "./philox.ts";
import type { Pick } from "./step-plan.ts";

/** One token to be drawn: how, and at which position of its sequence. */
export interface Draw extends Sampling {
  /** Index of the token in prompt and answer together. */
  position: number;
}

/** Enough to draw from nearly always, where the sampling itself sets no number. */
const usualCandidates = 64;

/** What ranks are asked for so that `draw` can be done. `tokens` are prompt and answer so far. */
export function pickFor(draw: Sampling, tokens: readonly number[]): Pick {
  const { temperature, topK, repetitionPenalty } = draw;
  const isPenalized = repetitionPenalty !== 1;
  return {
    count: temperature === 0 ? 1 : topK || usualCandidates,
    temperature,
    repetitionPenalty,
    penalized: isPenalized ? [...new Set(tokens)] : [],
  };
}

/**
 * Draws a token. Temperature comes first, then top-k; of those, top-p keeps the likeliest that hold
 * that much of their mass (the nucleus of Holtzman et al., "The Curious Case of Neural Text
 * Degeneration", 2020), and min-p those that are likely enough beside the likeliest (Nguyen et al.,
 * "Turning Up the Heat", 2024). Each of the three cuts the list of candidates, likeliest first, at
 * some place: the earliest cut counts.
 *
 * Returns undefined when the candidates do not reach as far as the draw. Throws EngineError
 * "internal" when logits are no finite numbers.
 */
export function drawToken(candidates: Candidates, draw: Draw): number | undefined {
  const { tokens, logits } = candidates;
  const largest = logits[0];
  if (largest === undefined || !Number.isFinite(largest)) {
    throw new EngineError("internal", "The model computed logits that are no finite numbers.");
  }
  if (draw.temperature === 0) return tokens[0];
  const weights = logits.map((logit) => Math.exp((logit - largest) / draw.temperature));
  const nucleus = cut(weights, candidates, draw);
  if (nucleus === undefined) return undefined;
  let remaining = uniformAt(draw.seed, draw.position) * nucleus.mass;
  for (let i = 0; i < nucleus.count; i += 1) {
    remaining -= weights[i] as number;
    if (remaining < 0) return tokens[i];
  }
  // What is left by then is a rounding error, unless there are tokens beyond the candidates.
  return nucleus.isWhole ? tokens[nucleus.count - 1] : undefined;
}

interface Nucleus {
  /** How many of the candidates belong to it. */
  count: number;
  mass: number;
  /** Whether it ends within the candidates. */
  isWhole: boolean;
}

/** Undefined when it ends beyond the candidates, and its mass is not known therefore. */
function cut(weights: number[], candidates: Candidates, draw: Draw): Nucleus | undefined {
  const { topK, topP, minP } = draw;
  const limit = topK > 0 ? Math.min(topK, weights.length) : weights.length;
  const isLimited = candidates.isAll || (topK > 0 && topK <= weights.length);
  const whole = topK > 0 ? sum(weights, limit) : candidates.mass;
  let held = 0;
  for (let count = 0; count < limit; count += 1) {
    const weight = weights[count] as number;
    if (weight < minP) return { count, mass: held, isWhole: true };
    held += weight;
    if (topP < 1 && held >= topP * whole) return { count: count + 1, mass: held, isWhole: true };
  }
  if (isLimited) return { count: limit, mass: held, isWhole: true };
  return topP < 1 || minP > 0 ? undefined : { count: limit, mass: whole, isWhole: false };
}

function sum(weights: readonly number[], count: number): number {
  let total = 0;
  for (let i = 0; i < count; i += 1) total += weights[i] as number;
  return total;
}
