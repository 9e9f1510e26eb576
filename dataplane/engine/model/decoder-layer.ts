import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../checkpoint/model-config.ts";
import type { Collective } from "../collectives/collective.ts";
import type { Activations } from "./activations.ts";
import type { Attention } from "./attention.ts";
import type { KeyValueCache } from "./key-value-cache.ts";
import { ColumnParallelLinear, RowParallelLinear } from "./parallel-linear.ts";
import { rmsNorm } from "./rms-norm.ts";
import { lengthOf, type ModelShard, type Range, scaled } from "./shard.ts";
import type { StepRows } from "./step-rows.ts";
import { swiglu } from "./swiglu.ts";
import { Float32Matrix } from "./weight-matrix.ts";

/** One rank's part of a layer's weights. */
interface LayerWeights {
  attentionNorm: Float32Array; // [hidden] f32
  queries: ColumnParallelLinear;
  keys: ColumnParallelLinear;
  values: ColumnParallelLinear;
  attentionOutput: RowParallelLinear;
  mlpNorm: Float32Array; // [hidden] f32
  gate: ColumnParallelLinear;
  up: ColumnParallelLinear;
  down: RowParallelLinear;
}

/** Attention and MLP, each added to the residual stream, each with one all-reduce. */
export class DecoderLayer {
  readonly #index: number;
  readonly #config: ModelConfig;
  readonly #shard: ModelShard;
  readonly #weights: LayerWeights;

  constructor(index: number, config: ModelConfig, shard: ModelShard, weights: LayerWeights) {
    this.#index = index;
    this.#config = config;
    this.#shard = shard;
    this.#weights = weights;
  }

  /** Updates `activations.residual` [rows, hidden] in place. */
  async forward(
    rows: StepRows,
    activations: Activations,
    cache: KeyValueCache,
    attention: Attention,
  ): Promise<void> {
    await this.#attend(rows, activations, cache, attention);
    addTo(activations.residual, activations.update, rows.count * this.#config.hiddenSize);
    await this.#transform(rows, activations);
    addTo(activations.residual, activations.update, rows.count * this.#config.hiddenSize);
  }

  async #attend(
    rows: StepRows,
    { residual, normed, update, queries, keys, values, attended }: Activations,
    cache: KeyValueCache,
    attention: Attention,
  ): Promise<void> {
    const weights = this.#weights;
    const { headSize, normEpsilon } = this.#config;
    const queryWidth = lengthOf(this.#shard.heads) * headSize;
    const keyWidth = lengthOf(this.#shard.keyValueHeads) * headSize;
    rmsNorm(residual, rows.count, weights.attentionNorm, normEpsilon, normed);
    weights.queries.forward(normed, rows.count, queries);
    weights.keys.forward(normed, rows.count, keys);
    weights.values.forward(normed, rows.count, values);
    rows.angles.rotate(queries, rows.count, lengthOf(this.#shard.heads));
    rows.angles.rotate(keys, rows.count, lengthOf(this.#shard.keyValueHeads));
    const of = (buffer: Float32Array, row: number, width: number) =>
      buffer.subarray(row * width, (row + 1) * width);
    for (let row = 0; row < rows.count; row += 1) {
      const slot = rows.slots[row] as number;
      const position = rows.positions[row] as number;
      const [key, value] = [of(keys, row, keyWidth), of(values, row, keyWidth)];
      // A chunk's rows come in the order of positions: each sees the keys of those before it.
      cache.store(this.#index, slot, position, key, value);
      const [query, output] = [of(queries, row, queryWidth), of(attended, row, queryWidth)];
      attention.attend(this.#index, slot, position, query, output);
    }
    await weights.attentionOutput.forward(attended, rows.count, update);
  }

  async #transform(
    rows: StepRows,
    { residual, normed, update, gate, up }: Activations,
  ): Promise<void> {
    const weights = this.#weights;
    rmsNorm(residual, rows.count, weights.mlpNorm, this.#config.normEpsilon, normed);
    weights.gate.forward(normed, rows.count, gate);
    weights.up.forward(normed, rows.count, up);
    swiglu(gate, up, rows.count * lengthOf(this.#shard.mlpColumns));
    await weights.down.forward(gate, rows.count, update);
  }
}

function addTo(sum: Float32Array, values: Float32Array, count: number): void {
  for (let i = 0; i < count; i += 1) sum[i] = (sum[i] as number) + (values[i] as number);
}

/** Reads this rank's slices of a layer from the checkpoint, and nothing else of it. */
export async function loadLayer(
  index: number,
  checkpoint: Checkpoint,
  shard: ModelShard,
  collective: Collective,
): Promise<DecoderLayer> {
  const { config } = checkpoint;
  const { hiddenSize, headSize, heads, keyValueHeads, mlpSize } = config;
  const prefix = `model.layers.${index}`;
  const column = async (name: string, outputs: number, own: Range) => {
    const slice = { rows: own, columns: [0, hiddenSize] } as const;
    const path = `${prefix}.${name}.weight`;
    const weights = await checkpoint.matrix(path, [outputs, hiddenSize], slice);
    return new ColumnParallelLinear(new Float32Matrix(weights, hiddenSize));
  };
  const row = async (name: string, inputs: number, own: Range) => {
    const slice = { rows: [0, hiddenSize], columns: own } as const;
    const path = `${prefix}.${name}.weight`;
    const weights = await checkpoint.matrix(path, [hiddenSize, inputs], slice);
    return new RowParallelLinear(new Float32Matrix(weights, lengthOf(own)), collective);
  };
  const norm = (name: string) => checkpoint.vector(`${prefix}.${name}.weight`, hiddenSize);
  const ownQueries = scaled(shard.heads, headSize);
  const ownKeys = scaled(shard.keyValueHeads, headSize);
  return new DecoderLayer(index, config, shard, {
    attentionNorm: await norm("input_layernorm"),
    queries: await column("self_attn.q_proj", heads * headSize, ownQueries),
    keys: await column("self_attn.k_proj", keyValueHeads * headSize, ownKeys),
    values: await column("self_attn.v_proj", keyValueHeads * headSize, ownKeys),
    attentionOutput: await row("self_attn.o_proj", heads * headSize, ownQueries),
    mlpNorm: await norm("post_attention_layernorm"),
    gate: await column("mlp.gate_proj", mlpSize, shard.mlpColumns),
    up: await column("mlp.up_proj", mlpSize, shard.mlpColumns),
    down: await row("mlp.down_proj", mlpSize, shard.mlpColumns),
  });
}
