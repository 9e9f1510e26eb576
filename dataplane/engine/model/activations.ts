import type { ModelConfig } from "../checkpoint/model-config.ts";
import type { Kernels } from "../kernels/kernels.ts";
import { lengthOf, type ModelShard } from "./shard.ts";

/** The buffers that a step's rows pass through, as many rows as a step can have. */
export interface Activations {
  /** The residual stream. [rows, hidden] f32, the same on every rank. */
  residual: Float32Array;
  /** [rows, hidden] f32 */
  normed: Float32Array;
  /** What a block adds to the residual stream. [rows, hidden] f32 */
  update: Float32Array;
  /** This rank's queries, keys and values. [rows, own heads + 2 · own keyValueHeads, headSize] f32 */
  queriesKeysValues: Float32Array;
  /** [rows, own heads, headSize] f32 */
  attended: Float32Array;
  /** [rows, 2 (gate, up), own MLP columns] f32 */
  gateUp: Float32Array;
  /** [rows, own MLP columns] f32 */
  gated: Float32Array;
}

export function allocateActivations(
  config: ModelConfig,
  shard: ModelShard,
  kernels: Kernels,
  rows: number,
): Activations {
  const queryWidth = lengthOf(shard.heads) * config.headSize;
  const keyWidth = lengthOf(shard.keyValueHeads) * config.headSize;
  const columns = lengthOf(shard.mlpColumns);
  const floats = (width: number) => kernels.allocate(rows * width);
  return {
    residual: floats(config.hiddenSize),
    normed: floats(config.hiddenSize),
    update: floats(config.hiddenSize),
    queriesKeysValues: floats(queryWidth + 2 * keyWidth),
    attended: floats(queryWidth),
    gateUp: floats(2 * columns),
    gated: floats(columns),
  };
}
