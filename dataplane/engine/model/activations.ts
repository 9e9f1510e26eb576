import type { ModelConfig } from "../checkpoint/model-config.ts";
import { lengthOf, type ModelShard } from "./shard.ts";

/** The buffers that a step's rows pass through. They grow to the largest step and are used again. */
export interface Activations {
  rows: number;
  /** The residual stream. [rows, hidden] f32, the same on every rank. */
  residual: Float32Array;
  /** [rows, hidden] f32 */
  normed: Float32Array;
  /** What a block adds to the residual stream. [rows, hidden] f32 */
  update: Float32Array;
  /** [rows, own heads, headSize] f32 */
  queries: Float32Array;
  /** [rows, own keyValueHeads, headSize] f32 */
  keys: Float32Array;
  /** [rows, own keyValueHeads, headSize] f32 */
  values: Float32Array;
  /** [rows, own heads, headSize] f32 */
  attended: Float32Array;
  /** [rows, own MLP columns] f32 */
  gate: Float32Array;
  /** [rows, own MLP columns] f32 */
  up: Float32Array;
}

export function allocateActivations(
  config: ModelConfig,
  shard: ModelShard,
  rows: number,
): Activations {
  const floats = (width: number) => new Float32Array(rows * width);
  const queryWidth = lengthOf(shard.heads) * config.headSize;
  const keyWidth = lengthOf(shard.keyValueHeads) * config.headSize;
  return {
    rows,
    residual: floats(config.hiddenSize),
    normed: floats(config.hiddenSize),
    update: floats(config.hiddenSize),
    queries: floats(queryWidth),
    keys: floats(keyWidth),
    values: floats(keyWidth),
    attended: floats(queryWidth),
    gate: floats(lengthOf(shard.mlpColumns)),
    up: floats(lengthOf(shard.mlpColumns)),
  };
}
