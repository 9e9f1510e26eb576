import type { Sampling } from "./engine.ts";
import { EngineError } from "./engine-error.ts";
import { uniformAt } from "./philox.ts";

/** One token to be drawn: how, and at which position of its sequence. */
export interface Draw extends Sampling {
  /** Index of the token in prompt and answer together. */
  position: number;
}

/**
 * Draws a token from logits [vocabulary]. Temperature comes first, then top-k, then top-p (the
 * nucleus of Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020) among what is
 * left. Of equal logits the lower token id counts as the likelier.
 */
export function drawToken(logits: Float32Array, draw: Draw): number {
  const best = likeliest(logits);
  if (draw.temperature === 0) return best;
  const largest = logits[best] as number;
  const weightOf = (token: number) =>
    Math.exp(((logits[token] as number) - largest) / draw.temperature);
  const candidates = likelyTokens(logits, largest, draw, weightOf);
  const nucleus = truncate(candidates, draw.topP, weightOf);
  let mass = 0;
  for (const token of nucleus) mass += weightOf(token);
  let remaining = uniformAt(draw.seed, draw.position) * mass;
  for (const token of nucleus) {
    remaining -= weightOf(token);
    if (remaining < 0) return token;
  }
  return nucleus.at(-1) ?? best;
}

/** Argmax, the lowest id of equals. Throws EngineError "internal" when it is no finite number. */
function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let token = 1; token < logits.length; token += 1) {
    if ((logits[token] as number) > (logits[best] as number)) best = token;
  }
  if (Number.isFinite(logits[best])) return best;
  throw new EngineError("internal", "The model computed logits that are no finite numbers.");
}

/**
 * The top-k tokens, likeliest first. Without top-k, at least as many as hold topP of the mass;
 * sorting the whole vocabulary is avoided by looking for them ever further below the largest logit.
 */
function likelyTokens(
  logits: Float32Array,
  largest: number,
  { temperature, topK, topP }: Draw,
  weightOf: (token: number) => number,
): number[] {
  const tokens = Array.from(logits.keys());
  const wanted = topK === 0 ? logits.length : topK;
  if (wanted >= logits.length && topP >= 1) return tokens;
  const total = topK === 0 ? tokens.reduce((sum, token) => sum + weightOf(token), 0) : 0;
  const isEnough = (found: number[]) =>
    topK === 0
      ? found.reduce((sum, token) => sum + weightOf(token), 0) >= topP * total
      : found.length >= wanted;
  let found = tokens;
  for (let depth = 8 * temperature; Number.isFinite(depth); depth *= 2) {
    const within = tokens.filter((token) => (logits[token] as number) >= largest - depth);
    if (!isEnough(within) && within.length < tokens.length) continue;
    found = within;
    break;
  }
  found.sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b);
  return topK === 0 ? found : found.slice(0, wanted);
}

/** The shortest beginning of `tokens` that holds `topP` of their mass. */
function truncate(tokens: number[], topP: number, weightOf: (token: number) => number): number[] {
  if (topP >= 1) return tokens;
  // Whatever is missing from `tokens` weighs less than 1 − topP; it is left out of the mass as well.
  const mass = tokens.reduce((sum, token) => sum + weightOf(token), 0);
  let held = 0;
  const end = tokens.findIndex((token) => {
    held += weightOf(token);
    return held >= topP * mass;
  });
  return end < 0 ? tokens : tokens.slice(0, end + 1);
}
