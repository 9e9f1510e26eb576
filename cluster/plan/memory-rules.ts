import type { Revision } from "../deployment.ts";
import { dollars, gigabytes, grouped } from "./amounts.ts";
import type { InstanceType } from "./instances.ts";
import { type GroupMemory, memoryOf, type RankMemory } from "./memory.ts";
import { type Problem, refused, warning } from "./problem.ts";
import { type Suggestion, suggest } from "./suggestions.ts";

/**
 * Whether the model and its turns have room.
 *
 * - Not one full context fits: refused. vLLM would not start.
 * - Not all slots fit with a full context: a warning. Nothing breaks: the engine puts the turn off that
 *   came last, and computes it again later. Most turns are shorter than the context, so slots beyond
 *   what fits at the worst may well be meant.
 */
export function memoryProblems(
  revision: Revision,
  instance: InstanceType,
  region: string,
  field: (name: string) => string,
): Problem[] {
  const memory = memoryOf(revision, instance);
  const { slots, contextTokens } = revision;
  if (memory.fullContexts < 1) {
    const message = [
      ...sumText(revision, instance, memory),
      ...remedies(revision, memory, region),
    ].join("\n    ");
    return [refused(field("instanceType"), message)];
  }
  if (memory.fullContexts >= slots) return [];
  const message =
    `${slots} turns of ${grouped(contextTokens)} tokens need room for ${grouped(slots * contextTokens)}, ` +
    `there is room for ${grouped(memory.kvTokens)}: ${memory.fullContexts} full contexts. Beyond that the ` +
    "last turn waits and is computed again";
  return [warning(field("slots"), message)];
}

function tightest({ ranks }: GroupMemory): RankMemory {
  const [first, ...rest] = ranks;
  if (first === undefined) throw new Error("A group has at least one stage.");
  const tokens = (rank: RankMemory) => rank.kvRoomBytes / rank.kvBytesPerToken;
  return rest.reduce((least, rank) => (tokens(rank) < tokens(least) ? rank : least), first);
}

function sumText(revision: Revision, instance: InstanceType, memory: GroupMemory): string[] {
  const { shape, engine, contextTokens } = revision;
  const rank = tightest(memory);
  const contextBytes = rank.kvBytesPerToken * contextTokens;
  const needed = rank.weightBytes + rank.reserveBytes + contextBytes;
  const reserve = engine.kind === "vllm" ? "reserve (CUDA, NCCL, activations)" : "reserve";
  const format = engine.kind === "vllm" ? shape.dtype : engine.weights;
  const device =
    instance.gpus === undefined
      ? "a rank of the embedded engine"
      : `one ${instance.gpus.gpu.name} of ${instance.name}`;
  const share =
    engine.kind === "vllm" ? `, ${Number((engine.gpuMemoryUtilization * 100).toFixed(1))} %` : "";
  const row = (what: string, bytes: number) => `${what.padEnd(34)}${gigabytes(bytes).padStart(9)}`;
  return [
    `${grouped(shape.parameters)} parameters in ${format} do not fit ${device}:`,
    row("weights on the fullest rank", rank.weightBytes),
    row(reserve, rank.reserveBytes),
    row(`KV cache of ${grouped(contextTokens)} tokens`, contextBytes),
    row("needed", needed),
    row(`usable${share} of ${gigabytes(rank.totalBytes)}`, rank.usableBytes),
  ];
}

function remedies(revision: Revision, memory: GroupMemory, region: string): string[] {
  const shorter =
    memory.kvTokens >= 256
      ? [`a context of ${grouped(memory.kvTokens)} tokens would fit as it is`]
      : [];
  const others = suggest(revision, region).map(suggestionText);
  if (shorter.length + others.length === 0) return ["nothing in the table of instances would do"];
  return ["what would fit:", ...[...shorter, ...others].map((line) => `- ${line}`)];
}

function suggestionText(suggestion: Suggestion): string {
  const { instanceType, nodes, tensorParallel, pipelineParallel } = suggestion;
  const { fullContexts, usdPerMonth } = suggestion;
  return (
    `${nodes} × ${instanceType}, tensorParallel ${tensorParallel}, pipelineParallel ${pipelineParallel}: ` +
    `${fullContexts} full contexts, ${dollars(usdPerMonth)} a month`
  );
}
