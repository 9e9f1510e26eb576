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
 * computes the logits of its tokens.
 */

import type { ModelConfig } from "../checkpoint/model-config.ts";
import { EngineError } from "../engine-error.ts";

/** Half-open: [first, end). */
export type Range = readonly [number, number];

/** What one rank has of the model. */
export interface ModelShard {
  heads: Range;
  /** Those that this rank's query heads read; one at a border is held by both its neighbours. */
  keyValueHeads: Range;
  mlpColumns: Range;
  /** Token ids; the last rank's range may be shorter, even empty. */
  vocabulary: Range;
}

/** The vocabulary is cut at multiples of this, so that kernels have whole panels. */
const vocabularyUnit = 16;

/**
 * Query heads are dealt out evenly, and each rank holds the heads of keys and values that its own
 * query heads read: where there are fewer of those than ranks, or a border cuts through a group, a
 * head is replicated. The MLP is split evenly for itself: ranks wait for each other between the two.
 * Throws EngineError "unsupported_model" when the model cannot be split over so many ranks.
 */
export function shardModel(config: ModelConfig, rank: number, ranks: number): ModelShard {
  const { heads, vocabularySize } = config;
  if (ranks > heads) {
    const message = `A model with ${heads} attention heads cannot be split over ${ranks} ranks.`;
    throw new EngineError("unsupported_model", message);
  }
  const slice = Math.ceil(vocabularySize / ranks / vocabularyUnit) * vocabularyUnit;
  const clamp = (token: number) => Math.min(token, vocabularySize);
  return {
    heads: headsOf(config, rank, ranks),
    keyValueHeads: keyValueHeadsOf(config, headsOf(config, rank, ranks)),
    mlpColumns: mlpColumnsOf(config, rank, ranks),
    vocabulary: [clamp(rank * slice), clamp((rank + 1) * slice)],
  };
}

function headsOf({ heads }: ModelConfig, rank: number, ranks: number): Range {
  return [Math.ceil((rank * heads) / ranks), Math.ceil(((rank + 1) * heads) / ranks)];
}

function keyValueHeadsOf({ heads, keyValueHeads }: ModelConfig, [first, end]: Range): Range {
  const groupSize = heads / keyValueHeads;
  return [Math.floor(first / groupSize), Math.ceil(end / groupSize)];
}

/** Even shares, in whole groups of int8 weights where the model allows it. */
function mlpColumnsOf({ mlpSize }: ModelConfig, rank: number, ranks: number): Range {
  const unit = [32, 16, 8, 4].find((size) => mlpSize % size === 0 && mlpSize >= ranks * size) ?? 1;
  const border = (index: number) => Math.ceil((index * mlpSize) / unit / ranks) * unit;
  return [border(rank), border(rank + 1)];
}

/** Heads of keys and values on all ranks together, those that are on two counted twice. */
export function keyValueCopies(config: ModelConfig, ranks: number): number {
  const own = Array.from({ length: ranks }, (_, rank) => shardModel(config, rank, ranks));
  return own.reduce((sum, { keyValueHeads }) => sum + lengthOf(keyValueHeads), 0);
}

/** For each of the rank's query heads, the index among its own heads of keys and values. */
export function headMap(config: ModelConfig, { heads, keyValueHeads }: ModelShard): number[] {
  const groupSize = config.heads / config.keyValueHeads;
  return Array.from({ length: lengthOf(heads) }, (_, i) => {
    return Math.floor((heads[0] + i) / groupSize) - keyValueHeads[0];
  });
}

export function lengthOf([first, end]: Range): number {
  return end - first;
}

/** A range of heads as the range of rows (or columns) that they take in a weight matrix. */
export function scaled([first, end]: Range, by: number): Range {
  return [first * by, end * by];
}
