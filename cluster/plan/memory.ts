import type { Revision } from "../deployment.ts";
import type { InstanceType } from "./instances.ts";
import { keyValueBytesPerToken, layersOfStages, weightBytesOf } from "./model-size.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;

/**
 * What a rank takes beside weights and KV cache, bytes: assumptions, of the size that vLLM's own
 * profiling reports for models of this kind. vLLM measures it when it starts, and its cache gets what is
 * really left. Source of what there is: docs.vllm.ai, "Conserving memory".
 */
const vllmReserve = {
  /** The CUDA context and NCCL's buffers. */
  contextAndNccl: 1 * GiB,
  /** Of a prefill chunk, and the logits of all slots in f32. */
  activations: 1 * GiB,
  cudaGraphs: 0.5 * GiB,
} as const;

/** Node itself, by rank, and the activations of a step. */
const embeddedReserveBytes = 128 * MiB;
/** A rank of the embedded engine has one linear memory of WebAssembly. */
const embeddedRankBytes = 4 * GiB;
/** Of a CPU node's memory, what is left to the system and to Kubernetes. */
const systemShare = 0.1;

/** Tokens that the KV cache is given out by: vLLM's block, the embedded engine's page. */
const pageTokens = { vllm: 16, embedded: 32 } as const;

/** One rank of a stage, bytes. Its usable memory is the sum of weights, reserve and KV room. */
export interface RankMemory {
  stage: number;
  layers: number;
  /** What the device has, or what a rank may have of its node. */
  totalBytes: number;
  /** What the engine may take of it. */
  usableBytes: number;
  weightBytes: number;
  reserveBytes: number;
  /** What is left for keys and values; below 0 it is what is missing. */
  kvRoomBytes: number;
  kvBytesPerToken: number;
}

export interface GroupMemory {
  ranks: RankMemory[];
  /** Bytes of keys and values of one token, on all ranks of the group together. */
  kvBytesPerToken: number;
  /** Tokens whose keys and values have room at the same time; the tightest stage decides. */
  kvTokens: number;
  /** Turns that have room at the same time, each with a full context. */
  fullContexts: number;
}

export function memoryOf(revision: Revision, instance: InstanceType): GroupMemory {
  const { shape, engine, tensorParallel, pipelineParallel, contextTokens } = revision;
  const { totalBytes, usableBytes, reserveBytes } = rankBudget(revision, instance);
  const layers = layersOfStages(shape.layers, pipelineParallel);
  const ranks = layers.map((own, stage): RankMemory => {
    const weightBytes = sum(Object.values(weightBytesOf(revision, stage)));
    const kvRoomBytes = usableBytes - weightBytes - reserveBytes;
    const kvBytesPerToken = keyValueBytesPerToken(revision, stage);
    const budget = { totalBytes, usableBytes, weightBytes, reserveBytes, kvRoomBytes };
    return { stage, layers: own, ...budget, kvBytesPerToken };
  });
  const page = pageTokens[engine.kind];
  const pages = Math.min(
    ...ranks.map((rank) => Math.floor(rank.kvRoomBytes / (rank.kvBytesPerToken * page))),
  );
  const kvTokens = Math.max(0, pages) * page;
  return {
    ranks,
    kvBytesPerToken: sum(ranks.map((rank) => rank.kvBytesPerToken)) * tensorParallel,
    kvTokens,
    fullContexts: Math.floor(kvTokens / (Math.ceil(contextTokens / page) * page)),
  };
}

function rankBudget({ engine, nodes, tensorParallel }: Revision, instance: InstanceType) {
  if (engine.kind === "vllm") {
    const totalBytes = instance.gpus?.gpu.memoryBytes ?? 0;
    const reserveBytes = sum(Object.values(vllmReserve));
    const usableBytes = Math.floor(totalBytes * engine.gpuMemoryUtilization);
    return { totalBytes, usableBytes, reserveBytes };
  }
  const ranksOfNode = Math.ceil(tensorParallel / nodes);
  const totalBytes = instance.memoryBytes / ranksOfNode;
  const share = Math.floor(totalBytes * (1 - systemShare));
  const usableBytes = Math.min(embeddedRankBytes, share);
  return { totalBytes, usableBytes, reserveBytes: embeddedReserveBytes };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
