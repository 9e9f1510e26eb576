import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../checkpoint/model-config.ts";
import type { Collective } from "../collectives/collective.ts";
import type { StepPlan } from "../step-plan.ts";
import { type Activations, allocateActivations } from "./activations.ts";
import { Attention } from "./attention.ts";
import { type DecoderLayer, loadLayer } from "./decoder-layer.ts";
import { KeyValueCache } from "./key-value-cache.ts";
import { rmsNorm } from "./rms-norm.ts";
import { rotaryFrequencies } from "./rotary.ts";
import { lengthOf, type ModelShard, type Range, shardModel } from "./shard.ts";
import { layOutRows } from "./step-rows.ts";
import { VocabularyParallelEmbedding, VocabularyParallelHead } from "./vocabulary-parallel.ts";
import { Float32Matrix } from "./weight-matrix.ts";

interface ModelParts {
  embedding: VocabularyParallelEmbedding;
  layers: DecoderLayer[];
  finalNorm: Float32Array; // [hidden] f32
  head: VocabularyParallelHead;
}

/**
 * One rank's share of a Llama model (Touvron et al., "LLaMA", 2023), with the keys and values of the
 * sequences that it runs. All ranks call `forward` with the same plans in the same order.
 */
export class LlamaModel {
  readonly config: ModelConfig;
  readonly #shard: ModelShard;
  readonly #parts: ModelParts;
  readonly #cache: KeyValueCache;
  readonly #attention: Attention;
  readonly #frequencies: Float64Array; // [headSize / 2]
  #activations: Activations;

  private constructor(config: ModelConfig, shard: ModelShard, parts: ModelParts) {
    this.config = config;
    this.#shard = shard;
    this.#parts = parts;
    this.#cache = new KeyValueCache({
      layers: config.layers,
      keyValueHeads: lengthOf(shard.keyValueHeads),
      headSize: config.headSize,
    });
    this.#attention = new Attention(this.#cache, lengthOf(shard.heads));
    this.#frequencies = rotaryFrequencies(config);
    this.#activations = allocateActivations(config, shard, 1);
  }

  /** Reads the rank's slices. Throws EngineError "invalid_checkpoint" or "unsupported_model". */
  static async load(checkpoint: Checkpoint, collective: Collective): Promise<LlamaModel> {
    const { config } = checkpoint;
    const { hiddenSize, vocabularySize } = config;
    const shard = shardModel(config, collective.rank, collective.size);
    const vocabularyRows = (name: string, rows: Range) => {
      const slice = { rows, columns: [0, hiddenSize] } as const;
      return checkpoint.matrix(name, [vocabularySize, hiddenSize], slice);
    };
    const embedding = await vocabularyRows("model.embed_tokens.weight", shard.vocabulary);
    const layers: DecoderLayer[] = [];
    for (let index = 0; index < config.layers; index += 1) {
      layers.push(await loadLayer(index, checkpoint, shard, collective));
    }
    const head = config.tiedEmbeddings
      ? embedding
      : await vocabularyRows("lm_head.weight", shard.vocabulary);
    const headMatrix = new Float32Matrix(head, hiddenSize);
    return new LlamaModel(config, shard, {
      embedding: new VocabularyParallelEmbedding(embedding, shard, collective),
      layers,
      finalNorm: await checkpoint.vector("model.norm.weight", hiddenSize),
      head: new VocabularyParallelHead(headMatrix, shard, vocabularySize, collective),
    });
  }

  /**
   * Runs one step. Returns, on rank 0, the logits [chunks that want them, vocabulary] f32 in the
   * order of the plan; undefined on other ranks, and when no logits are wanted.
   */
  async forward(plan: StepPlan): Promise<Float32Array | undefined> {
    for (const slot of plan.released) this.#cache.release(slot);
    for (const { slot, start, tokens } of plan.chunks) {
      this.#cache.extend(slot, start, tokens.length);
    }
    const rows = layOutRows(plan, this.#frequencies);
    if (rows.count === 0) return undefined;
    const { hiddenSize } = this.config;
    const activations = this.#activationsFor(rows.count);
    await this.#parts.embedding.forward(rows.tokens, hiddenSize, activations.residual);
    for (const layer of this.#parts.layers) {
      await layer.forward(rows, activations, this.#cache, this.#attention);
    }
    if (rows.wanted.length === 0) return undefined;
    const { residual, normed, update } = activations;
    rows.wanted.forEach((row, i) => {
      const from = residual.subarray(row * hiddenSize, (row + 1) * hiddenSize);
      update.set(from, i * hiddenSize);
    });
    const { finalNorm, head } = this.#parts;
    rmsNorm(update, rows.wanted.length, finalNorm, this.config.normEpsilon, normed);
    return head.forward(normed, rows.wanted.length);
  }

  #activationsFor(rows: number): Activations {
    if (this.#activations.rows < rows) {
      this.#activations = allocateActivations(this.config, this.#shard, rows);
    }
    return this.#activations;
  }
}
