import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { ModelConfig } from "../checkpoint/model-config.ts";
import type { Collective } from "../collectives/collective.ts";
import type { Kernels, MatrixPart, PagedAttention } from "../kernels/kernels.ts";
import type { StepPlan } from "../step-plan.ts";
import { type Activations, allocateActivations } from "./activations.ts";
import { type DecoderLayer, loadLayer } from "./decoder-layer.ts";
import { PageLayout } from "./page-layout.ts";
import { RotaryTable } from "./rotary.ts";
import { headMap, lengthOf, type ModelShard, type Range, shardModel } from "./shard.ts";
import { layOutRows } from "./step-rows.ts";
import { VocabularyParallelEmbedding, VocabularyParallelHead } from "./vocabulary-parallel.ts";

interface ModelParts {
  embedding: VocabularyParallelEmbedding;
  layers: DecoderLayer[];
  finalNorm: Float32Array; // [hidden] f32
  head: VocabularyParallelHead;
}

/** How much of everything a model has to have room for. */
export interface ModelRoom {
  /** Rows in a step. */
  rows: number;
  /** Pages of keys and values. */
  pages: number;
}

/**
 * One rank's share of a Llama model (Touvron et al., "LLaMA", 2023), with the keys and values of the
 * sequences that it runs. All ranks call `forward` with the same plans in the same order.
 */
export class LlamaModel {
  readonly config: ModelConfig;
  /** The token ids whose logits this rank computes. */
  readonly vocabulary: Range;
  readonly kernels: Kernels;
  readonly #parts: ModelParts;
  readonly #attention: PagedAttention;
  readonly #rotary: RotaryTable;
  readonly #activations: Activations;

  private constructor(
    config: ModelConfig,
    shard: ModelShard,
    parts: ModelParts,
    kernels: Kernels,
    room: ModelRoom,
  ) {
    this.config = config;
    this.vocabulary = shard.vocabulary;
    this.kernels = kernels;
    this.#parts = parts;
    const layout = pageLayout(config, shard);
    this.#attention = kernels.createAttention(layout, headMap(config, shard), room.pages);
    this.#rotary = new RotaryTable(config, kernels, room.rows);
    this.#activations = allocateActivations(config, shard, kernels, room.rows);
  }

  /** Reads the rank's slices. Throws EngineError "invalid_checkpoint" or "unsupported_model". */
  static async load(
    checkpoint: Checkpoint,
    collective: Collective,
    kernels: Kernels,
    room: ModelRoom,
  ): Promise<LlamaModel> {
    const { config } = checkpoint;
    const { hiddenSize, vocabularySize } = config;
    const shard = shardModel(config, collective.rank, collective.size);
    const tokenMatrix = (name: string) => {
      const read: MatrixPart["read"] = (first, end, into) => {
        const rows = [shard.vocabulary[0] + first, shard.vocabulary[0] + end] as const;
        const slice = { rows, columns: [0, hiddenSize] } as const;
        return checkpoint.matrix(name, [vocabularySize, hiddenSize], slice, into);
      };
      return kernels.loadMatrix([{ outputs: lengthOf(shard.vocabulary), read }], hiddenSize);
    };
    const embedding = await tokenMatrix("model.embed_tokens.weight");
    const layers: DecoderLayer[] = [];
    for (let index = 0; index < config.layers; index += 1) {
      layers.push(await loadLayer(index, checkpoint, shard, collective, kernels));
    }
    const head = config.tiedEmbeddings ? embedding : await tokenMatrix("lm_head.weight");
    const finalNorm = kernels.allocate(hiddenSize);
    finalNorm.set(await checkpoint.vector("model.norm.weight", hiddenSize));
    const parts = {
      embedding: new VocabularyParallelEmbedding(embedding, shard.vocabulary, collective),
      layers,
      finalNorm,
      head: new VocabularyParallelHead(head, shard.vocabulary, kernels),
    };
    return new LlamaModel(config, shard, parts, kernels, room);
  }

  /**
   * Runs one step. Returns, for each chunk after which a token is drawn, the logits of this rank's
   * token ids, f32. They hold until the next step.
   */
  async forward(plan: StepPlan): Promise<Float32Array[]> {
    const rows = layOutRows(plan, this.#rotary);
    const { hiddenSize, normEpsilon } = this.config;
    const { residual, normed, update } = this.#activations;
    await this.#parts.embedding.forward(rows.tokens, residual);
    for (const layer of this.#parts.layers) {
      await layer.forward(rows, this.#activations, this.#attention);
    }
    if (rows.drawing.length === 0) return [];
    rows.drawing.forEach((row, i) => {
      const from = residual.subarray(row * hiddenSize, (row + 1) * hiddenSize);
      update.set(from, i * hiddenSize);
    });
    const { finalNorm, head } = this.#parts;
    this.kernels.rmsNorm(update, rows.drawing.length, finalNorm, normEpsilon, normed);
    return head.forward(normed, rows.drawing.length);
  }
}

function pageLayout(config: ModelConfig, shard: ModelShard): PageLayout {
  return new PageLayout({
    layers: config.layers,
    keyValueHeads: lengthOf(shard.keyValueHeads),
    headSize: config.headSize,
  });
}
