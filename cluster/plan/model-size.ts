import type { ModelShape, Revision } from "../deployment.ts";

/**
 * How many bytes of a Llama-architecture model one rank holds, after Shoeybi et al., "Megatron-LM"
 * (2019): matrices are cut over the tensor-parallel ranks, layers are dealt to the stages of the
 * pipeline. What cannot be cut is on every rank: the norms, and a head of keys and values that the
 * query heads of several ranks read.
 */

type Engine = Revision["engine"];

/** Weights by where they are, in numbers (not bytes). */
export interface ParameterCounts {
  /** [vocabulary, hidden]; the output head is another of that size, unless both are one matrix. */
  embedding: number;
  /** Of one layer. */
  query: number;
  keyValue: number;
  output: number;
  mlp: number;
  norms: number;
}

/** What is not embedding, attention or norm is the MLP: three matrices of [hidden, intermediate]. */
export function countParameters(shape: ModelShape): ParameterCounts {
  const { parameters, layers, hiddenSize, attentionHeads, keyValueHeads, headSize } = shape;
  const embedding = shape.vocabularySize * hiddenSize;
  const embeddings = shape.tiedEmbeddings === true ? embedding : 2 * embedding;
  const query = hiddenSize * attentionHeads * headSize;
  const keyValue = 2 * hiddenSize * keyValueHeads * headSize;
  const norms = 2 * hiddenSize;
  const perLayer = (parameters - embeddings - hiddenSize) / layers;
  return {
    ...{ embedding, query, keyValue, output: query, norms },
    mlp: perLayer - 2 * query - keyValue - norms,
  };
}

/** Columns of the MLP. */
export function intermediateSize(shape: ModelShape): number {
  return countParameters(shape).mlp / (3 * shape.hiddenSize);
}

/**
 * Bytes of a weight in the matrices of the layers. Formats below 16 bits need scales: int4 has one of
 * 16 bits and a zero point of 4 for each group of 128 (GPTQ, AWQ); the embedded engine's int8 one of
 * 16 bits for each 32 (dataplane/engine/README.md).
 */
function bytesPerWeight({ dtype }: ModelShape, engine: Engine): number {
  if (engine.kind === "embedded") return engine.weights === "int8" ? 17 / 16 : 4;
  return { float32: 4, bfloat16: 2, float16: 2, fp8: 1, int8: 1, int4: 0.5 + 2.5 / 128 }[dtype];
}

/** Quantized checkpoints keep embeddings and output head in 16 bits. */
function bytesPerEmbeddingWeight(shape: ModelShape, engine: Engine): number {
  if (engine.kind === "embedded") return bytesPerWeight(shape, engine);
  return shape.dtype === "float32" ? 4 : 2;
}

/** Of a norm's weight, and of a number on its way between ranks. */
export function bytesPerActivation({ dtype }: ModelShape, engine: Engine): number {
  return engine.kind === "embedded" || dtype === "float32" ? 4 : 2;
}

/** vLLM's option --kv-cache-dtype; by default keys and values are as wide as activations. */
function bytesPerKeyValue(shape: ModelShape, engine: Engine): number {
  if (engine.kind === "embedded") return 4;
  const { options } = engine;
  const at = options.findIndex((option) => option.startsWith("--kv-cache-dtype"));
  const value = options[at]?.split("=")[1] ?? options[at + 1];
  return at >= 0 && value?.startsWith("fp8") ? 1 : bytesPerActivation(shape, engine);
}

/**
 * Layers of each stage of the pipeline. Where they do not come out even, vLLM gives one more to the
 * stages before the last, which has the output head (vllm/distributed/utils.py, get_pp_indices).
 */
export function layersOfStages(layers: number, stages: number): number[] {
  const rest = layers % stages;
  return Array.from({ length: stages }, (_, stage) => {
    const isLonger = stage < stages - 1 && stage >= stages - 1 - rest;
    return Math.floor(layers / stages) + (isLonger ? 1 : 0);
  });
}

/** Heads of keys and values on the rank that has most of them: where there are fewer than ranks, one. */
export function keyValueHeadsOfRank(shape: ModelShape, ranks: number): number {
  const { attentionHeads, keyValueHeads } = shape;
  const groupSize = attentionHeads / keyValueHeads;
  const border = (rank: number) => Math.ceil((rank * attentionHeads) / ranks);
  const counts = Array.from({ length: ranks }, (_, rank) => {
    return Math.ceil(border(rank + 1) / groupSize) - Math.floor(border(rank) / groupSize);
  });
  return Math.max(...counts);
}

/** Of one rank of one stage, bytes. */
export interface WeightBytes {
  embedding: number;
  layers: number;
  /** Replicated on every rank of the stage. */
  norms: number;
  outputHead: number;
}

export function weightBytesOf(
  { shape, engine, tensorParallel, pipelineParallel }: Revision,
  stage: number,
): WeightBytes {
  const { query, keyValue, output, mlp } = countParameters(shape);
  const { layers, hiddenSize, vocabularySize, attentionHeads, keyValueHeads } = shape;
  const own = layersOfStages(layers, pipelineParallel)[stage] ?? 0;
  const [isFirst, isLast] = [stage === 0, stage === pipelineParallel - 1];
  const queryShare = Math.ceil(attentionHeads / tensorParallel) / attentionHeads;
  const keyValueShare = keyValueHeadsOfRank(shape, tensorParallel) / keyValueHeads;
  const layer = (query + output) * queryShare + keyValue * keyValueShare + mlp / tensorParallel;
  const vocabulary =
    Math.ceil(vocabularySize / tensorParallel) *
    hiddenSize *
    bytesPerEmbeddingWeight(shape, engine);
  // One matrix serves both ends where they are tied and on the same stage.
  const isShared = shape.tiedEmbeddings === true && isFirst;
  return {
    embedding: isFirst ? vocabulary : 0,
    layers: own * layer * bytesPerWeight(shape, engine),
    norms: (own * 2 + (isLast ? 1 : 0)) * hiddenSize * bytesPerActivation(shape, engine),
    outputHead: isLast && !isShared ? vocabulary : 0,
  };
}

/** Keys and values of one token in one layer's heads on one rank, times the layers of its stage. */
export function keyValueBytesPerToken(revision: Revision, stage: number): number {
  const { shape, engine, tensorParallel, pipelineParallel } = revision;
  const own = layersOfStages(shape.layers, pipelineParallel)[stage] ?? 0;
  const heads = keyValueHeadsOfRank(shape, tensorParallel);
  return 2 * own * heads * shape.headSize * bytesPerKeyValue(shape, engine);
}
