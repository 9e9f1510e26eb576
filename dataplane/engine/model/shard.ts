/**
 * How a model is split over the ranks of a tensor-parallel group, after Shoeybi et al.,
 * "Megatron-LM" (2019). A matrix multiplies rows of activations as y = x·Wᵀ, W being [out, in].
 *
 *   column parallel   each rank has some of the outputs: rows of W, from all of the inputs
 *   row parallel      each rank has some of the inputs: columns of W, and partial sums of all outputs
 *
 * A column-parallel layer followed by a row-parallel one needs no communication between them and
 * one all-reduce behind. Attention (q, k, v, then o) and the MLP (gate, up, then down) are such
 * pairs, hence two all-reduces a layer. The vocabulary is split too: each rank embeds its tokens, and
 * computes its slice of the logits.
 */

import type { ModelConfig } from "../checkpoint/model-config.ts";
import { EngineError } from "../engine-error.ts";

/** Half-open: [first, end). */
export type Range = readonly [number, number];

/** What one rank has of the model. */
export interface ModelShard {
  heads: Range;
  /** Those that serve this rank's query heads. */
  keyValueHeads: Range;
  mlpColumns: Range;
  /** Token ids; the last rank's range may be shorter, even empty. */
  vocabulary: Range;
  /** Length of every rank's slice of the logits, the last one's padding included. */
  vocabularySlice: number;
}

/** Throws EngineError "unsupported_model" when the model cannot be split over so many ranks. */
export function shardModel(config: ModelConfig, rank: number, ranks: number): ModelShard {
  const share = (total: number, what: string): Range => {
    if (total % ranks === 0) return [(rank * total) / ranks, ((rank + 1) * total) / ranks];
    throw new EngineError(
      "unsupported_model",
      `${total} ${what} cannot be split evenly over ${ranks} ranks; choose another number of ranks.`,
    );
  };
  const vocabularySlice = Math.ceil(config.vocabularySize / ranks);
  const clamp = (token: number) => Math.min(token, config.vocabularySize);
  return {
    keyValueHeads: share(config.keyValueHeads, "key/value heads"),
    heads: share(config.heads, "attention heads"),
    mlpColumns: share(config.mlpSize, "MLP columns"),
    vocabulary: [clamp(rank * vocabularySlice), clamp((rank + 1) * vocabularySlice)],
    vocabularySlice,
  };
}

export function lengthOf([first, end]: Range): number {
  return end - first;
}

/** A range of heads as the range of rows (or columns) that they take in a weight matrix. */
export function scaled([first, end]: Range, by: number): Range {
  return [first * by, end * by];
}
