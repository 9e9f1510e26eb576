import type { Revision } from "../deployment.ts";
import type { InstanceType } from "./instances.ts";
import { allReduceSeconds, hopSeconds, type Link, links } from "./links.ts";
import { memoryOf } from "./memory.ts";
import { bytesPerActivation, layersOfStages, weightBytesOf } from "./model-size.ts";

/** What a token costs in talk between ranks, and what it takes at least in reading. Times in seconds. */
export interface TokenTime {
  /**
   * All-reduces one after the other: two a layer, behind attention and behind the MLP (Shoeybi et al.,
   * 2019), and one for the embedding, whose vocabulary is split. None where nothing is split.
   */
  allReduces: number;
  /** One row of the hidden state. */
  messageBytes: number;
  /** Over which ranks of one stage talk; undefined where a stage is one rank. */
  link: Link["name"] | undefined;
  allReduceSeconds: number;
  /** The same number of them, if they went over these. */
  onNvlinkSeconds: number;
  onEfaSeconds: number;
  /** From stage to stage of the pipeline. */
  hops: number;
  hopLink: Link["name"] | undefined;
  hopSeconds: number;
  /**
   * The floor at batch 1: each weight is read once for each token, stage after stage, but of the input
   * embedding only a row is. Whatever the kernels, memory is not faster.
   */
  readSeconds: number;
  /** Reading, all-reduces and hops. */
  totalSeconds: number;
}

export function tokenTimeOf(revision: Revision, instance: InstanceType): TokenTime {
  const { shape, engine, tensorParallel, pipelineParallel } = revision;
  const messageBytes = shape.hiddenSize * bytesPerActivation(shape, engine);
  const allReduces = tensorParallel > 1 ? 2 * shape.layers + 1 : 0;
  const link = tensorParallel > 1 ? stageLink(revision, instance) : undefined;
  const hops = pipelineParallel - 1;
  const hopLink = hops > 0 ? pipelineLink(revision, instance) : undefined;
  const reduce = (over: Link) => allReduces * allReduceSeconds(over, messageBytes);
  const read = sum(
    layersOfStages(shape.layers, pipelineParallel).map(
      (_, stage) => bytesRead(revision, stage) / bytesPerSecond(revision, instance),
    ),
  );
  const reduceSeconds = link === undefined ? 0 : reduce(link);
  // The hidden state, and the residual beside it.
  const hop = hopLink === undefined ? 0 : hops * hopSeconds(hopLink, 2 * messageBytes);
  return {
    ...{ allReduces, messageBytes, link: link?.name, allReduceSeconds: reduceSeconds },
    ...{ onNvlinkSeconds: reduce(links.NVLink), onEfaSeconds: reduce(links.EFA) },
    ...{ hops, hopLink: hopLink?.name, hopSeconds: hop },
    ...{ readSeconds: read, totalSeconds: read + reduceSeconds + hop },
  };
}

/** Weights that a step reads on one rank of a stage, bytes. */
function bytesRead(revision: Revision, stage: number): number {
  const { embedding, layers, norms, outputHead } = weightBytesOf(revision, stage);
  // Where both ends are one matrix, it is read as the head.
  const isTied = revision.shape.tiedEmbeddings === true && revision.pipelineParallel === 1;
  return layers + norms + (isTied ? embedding : outputHead);
}

/** Between a rank and its weights. */
function bytesPerSecond({ tensorParallel, nodes }: Revision, instance: InstanceType): number {
  if (instance.gpus !== undefined) return instance.gpus.gpu.bytesPerSecond;
  return (instance.memoryBytesPerSecond ?? 0) / Math.ceil(tensorParallel / nodes);
}

/** Whether ranks that share a layer are on several nodes: ranks of a stage have numbers in a row. */
export function stageSpansNodes(
  { engine, tensorParallel, nodes }: Revision,
  instance: InstanceType,
): boolean {
  if (engine.kind === "embedded") return nodes > 1 && tensorParallel > 1;
  const ofNode = instance.gpus?.count ?? 1;
  return tensorParallel > ofNode || ofNode % tensorParallel !== 0;
}

function stageLink(revision: Revision, instance: InstanceType): Link {
  const spans = stageSpansNodes(revision, instance);
  if (revision.engine.kind === "embedded") return spans ? links.TCP : links["shared memory"];
  if (spans) return instance.efaCards > 0 ? links.EFA : links.TCP;
  return links[instance.gpus?.link ?? "PCIe"];
}

function pipelineLink({ nodes }: Revision, instance: InstanceType): Link {
  if (nodes > 1) return instance.efaCards > 0 ? links.EFA : links.TCP;
  return links[instance.gpus?.link ?? "PCIe"];
}

/** A turn as it is asked for: what a group has to do for it. */
export interface TurnSize {
  promptTokens: number;
  answerTokens: number;
}

/**
 * Share of the memory's bandwidth, and of the FLOPS, that an engine is taken to reach: assumptions. vLLM
 * has been seen at 77 % of the bandwidth at batch 1 (Llama-3.1-8B on one A100 40 GB,
 * johnmusgrave.com/p/vllm-throughput-latency-sweep-on); prefill and scheduling take their part of it.
 */
const reached = { bandwidth: 0.5, flops: 0.4 } as const;

export interface Throughput {
  /** Turns that run at a time: the slots, or those that have room. */
  turns: number;
  /** Between two tokens of one turn, with all slots busy, seconds. */
  interTokenSeconds: number;
  /** Tokens of answers a second of one group, prefill included. */
  tokensPerSecond: number;
  turnsPerSecond: number;
}

/**
 * What one group does with all slots busy: an estimate by the roofline (Williams et al., 2009). In a step
 * of decoding a stage reads its weights once, and the keys and values of its turns; a prompt costs two
 * FLOP for each weight and token. The stages of a pipeline work on different turns at the same time, so
 * each step has its share of them. Undefined where nothing is known of the hardware's arithmetic.
 */
export function throughputOf(
  revision: Revision,
  instance: InstanceType,
  { promptTokens, answerTokens }: TurnSize,
): Throughput | undefined {
  if (instance.gpus === undefined) return undefined;
  const { shape, engine, slots, tensorParallel, pipelineParallel } = revision;
  const { ranks, kvTokens } = memoryOf(revision, instance);
  const heldTokens = promptTokens + answerTokens / 2;
  const turns = Math.min(slots, Math.floor(kvTokens / (promptTokens + answerTokens)));
  const turnsOfStep = turns / pipelineParallel;
  const rowBytes = shape.hiddenSize * bytesPerActivation(shape, engine) * turnsOfStep;
  const link = tensorParallel > 1 ? stageLink(revision, instance) : undefined;
  const stageSeconds = ranks.map(({ stage, layers, kvBytesPerToken }) => {
    const kvBytes = turnsOfStep * heldTokens * kvBytesPerToken;
    const bandwidth = bytesPerSecond(revision, instance) * reached.bandwidth;
    const talk = link === undefined ? 0 : 2 * layers * allReduceSeconds(link, rowBytes);
    return (bytesRead(revision, stage) + kvBytes) / bandwidth + talk;
  });
  const stepSeconds = Math.max(...stageSeconds);
  const flops = tensorParallel * pipelineParallel * instance.gpus.gpu.flops * reached.flops;
  const prefillSeconds = (2 * shape.parameters * promptTokens) / flops;
  const decodeSeconds = (answerTokens * stepSeconds) / turnsOfStep;
  const turnsPerSecond = turns === 0 ? 0 : 1 / (prefillSeconds + decodeSeconds);
  return {
    turns,
    interTokenSeconds: turns === 0 ? 0 : turns / (turnsPerSecond * answerTokens),
    tokensPerSecond: turnsPerSecond * answerTokens,
    turnsPerSecond,
  };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
