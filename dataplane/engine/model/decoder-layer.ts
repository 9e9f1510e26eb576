import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../checkpoint/model-config.ts";
import type { Collective } from "../collectives/collective.ts";
import type { Kernels, MatrixPart, PagedAttention } from "../kernels/kernels.ts";
import type { Activations } from "./activations.ts";
import { ColumnParallelLinear, RowParallelLinear } from "./parallel-linear.ts";
import { lengthOf, type ModelShard, type Range, scaled } from "./shard.ts";
import type { StepRows } from "./step-rows.ts";

/** One rank's part of a layer's weights. */
interface LayerWeights {
  attentionNorm: Float32Array; // [hidden] f32
  queriesKeysValues: ColumnParallelLinear;
  attentionOutput: RowParallelLinear;
  mlpNorm: Float32Array; // [hidden] f32
  gateUp: ColumnParallelLinear;
  down: RowParallelLinear;
}

/** Attention and MLP, each added to the residual stream, each with one all-reduce. */
export class DecoderLayer {
  readonly #index: number;
  readonly #config: ModelConfig;
  readonly #shard: ModelShard;
  readonly #weights: LayerWeights;
  readonly #kernels: Kernels;

  constructor(
    index: number,
    config: ModelConfig,
    shard: ModelShard,
    weights: LayerWeights,
    kernels: Kernels,
  ) {
    this.#index = index;
    this.#config = config;
    this.#shard = shard;
    this.#weights = weights;
    this.#kernels = kernels;
  }

  /** Updates `activations.residual` [rows, hidden] in place. */
  async forward(rows: StepRows, activations: Activations, attention: PagedAttention) {
    const { residual, update } = activations;
    const length = rows.count * this.#config.hiddenSize;
    await this.#attend(rows, activations, attention);
    this.#kernels.add(residual, update, length);
    await this.#transform(rows, activations);
    this.#kernels.add(residual, update, length);
  }

  async #attend(
    rows: StepRows,
    { residual, normed, update, queriesKeysValues, attended }: Activations,
    attention: PagedAttention,
  ): Promise<void> {
    const { headSize, normEpsilon } = this.#config;
    const weights = this.#weights;
    const heads = lengthOf(this.#shard.heads);
    const keyValueHeads = lengthOf(this.#shard.keyValueHeads);
    const stride = (heads + 2 * keyValueHeads) * headSize;
    this.#kernels.rmsNorm(residual, rows.count, weights.attentionNorm, normEpsilon, normed);
    weights.queriesKeysValues.forward(normed, rows.count, queriesKeysValues);
    this.#kernels.rotate(queriesKeysValues, stride, heads + keyValueHeads, rows.angles);
    for (const chunk of rows.chunks) {
      // All keys of a chunk are there before the first of its queries looks; each sees its own past.
      attention.store(this.#index, chunk, queriesKeysValues);
      attention.attend(this.#index, chunk, queriesKeysValues, attended);
    }
    await weights.attentionOutput.forward(attended, rows.count, update);
  }

  async #transform(
    rows: StepRows,
    { residual, normed, update, gateUp, gated }: Activations,
  ): Promise<void> {
    const weights = this.#weights;
    const columns = lengthOf(this.#shard.mlpColumns);
    this.#kernels.rmsNorm(residual, rows.count, weights.mlpNorm, this.#config.normEpsilon, normed);
    weights.gateUp.forward(normed, rows.count, gateUp);
    this.#kernels.swiglu(gateUp, rows.count, columns, gated);
    await weights.down.forward(gated, rows.count, update);
  }
}

/** Reads this rank's slices of a layer from the checkpoint, and nothing else of it. */
export async function loadLayer(
  index: number,
  checkpoint: Checkpoint,
  shard: ModelShard,
  collective: Collective,
  kernels: Kernels,
): Promise<DecoderLayer> {
  const { config } = checkpoint;
  const { hiddenSize, headSize, heads, keyValueHeads, mlpSize } = config;
  const pathOf = (name: string) => `model.layers.${index}.${name}.weight`;
  const outputsOf = (name: string, outputs: number, own: Range): MatrixPart => ({
    outputs: lengthOf(own),
    read: (first, end, into) => {
      const rows = [own[0] + first, own[0] + end] as const;
      const slice = { rows, columns: [0, hiddenSize] } as const;
      return checkpoint.matrix(pathOf(name), [outputs, hiddenSize], slice, into);
    },
  });
  const column = async (...parts: MatrixPart[]) =>
    new ColumnParallelLinear(await kernels.loadMatrix(parts, hiddenSize));
  const row = async (name: string, inputs: number, own: Range) => {
    const read: MatrixPart["read"] = (first, end, into) => {
      const slice = { rows: [first, end], columns: own } as const;
      return checkpoint.matrix(pathOf(name), [hiddenSize, inputs], slice, into);
    };
    const matrix = await kernels.loadMatrix([{ outputs: hiddenSize, read }], lengthOf(own));
    return new RowParallelLinear(matrix, collective);
  };
  const norm = async (name: string) => {
    const weight = kernels.allocate(hiddenSize);
    weight.set(await checkpoint.vector(pathOf(name), hiddenSize));
    return weight;
  };
  const ownQueries = scaled(shard.heads, headSize);
  const ownKeys = scaled(shard.keyValueHeads, headSize);
  const weights = {
    attentionNorm: await norm("input_layernorm"),
    queriesKeysValues: await column(
      outputsOf("self_attn.q_proj", heads * headSize, ownQueries),
      outputsOf("self_attn.k_proj", keyValueHeads * headSize, ownKeys),
      outputsOf("self_attn.v_proj", keyValueHeads * headSize, ownKeys),
    ),
    attentionOutput: await row("self_attn.o_proj", heads * headSize, ownQueries),
    mlpNorm: await norm("post_attention_layernorm"),
    gateUp: await column(
      outputsOf("mlp.gate_proj", mlpSize, shard.mlpColumns),
      outputsOf("mlp.up_proj", mlpSize, shard.mlpColumns),
    ),
    down: await row("mlp.down_proj", mlpSize, shard.mlpColumns),
  };
  return new DecoderLayer(index, config, shard, weights, kernels);
}
