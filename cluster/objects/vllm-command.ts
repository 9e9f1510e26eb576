import type { Revision } from "../deployment.ts";
import { ports } from "./names.ts";
import { weightsUrl } from "./pod-parts.ts";
import { patience } from "./settings.ts";

export type VllmEngine = Extract<Revision["engine"], { kind: "vllm" }>;

/** vLLM casts weights to these; others are what the checkpoint says that it is quantized to. */
const castable = new Set(["float32", "bfloat16", "float16"]);

/**
 * What `vllm serve` is told on every node of a group (docs.vllm.ai, "vllm serve" and "Parallelism and
 * Scaling"). All nodes must be told the same of the model and of the parallelism.
 */
function engineArguments(revision: Revision, engine: VllmEngine, bucket: string): string[] {
  const { tensorParallel, pipelineParallel, contextTokens, slots, shape } = revision;
  return [
    weightsUrl(bucket, revision.weights),
    ...["--served-model-name", revision.revision],
    // Tensors go from S3 to the GPUs without a disk in between.
    ...["--load-format", "runai_streamer"],
    // The ranks of a node read each its part, and pass it on.
    ...(tensorParallel > 1 ? ["--model-loader-extra-config", '{"distributed":true}'] : []),
    ...["--tensor-parallel-size", String(tensorParallel)],
    ...["--pipeline-parallel-size", String(pipelineParallel)],
    ...["--max-model-len", String(contextTokens)],
    ...["--max-num-seqs", String(slots)],
    ...["--gpu-memory-utilization", String(engine.gpuMemoryUtilization)],
    ...(castable.has(shape.dtype) ? ["--dtype", shape.dtype] : []),
    // Its default of 0 aborts what runs.
    ...["--shutdown-timeout", String(patience.engineShutdown)],
    ...(revision.nodes > 1 ? ["--distributed-executor-backend", engine.executor] : []),
    ...engine.options,
  ];
}

/** Which of the nodes this one is; LeaderWorkerSet says so to every container. */
function nodeArguments({ nodes }: Revision): string[] {
  return [
    ...["--nnodes", String(nodes)],
    ...["--node-rank", "$(LWS_WORKER_INDEX)"],
    ...["--master-addr", "$(LWS_LEADER_ADDRESS)"],
    ...["--master-port", String(ports.master)],
  ];
}

const isSpread = ({ nodes }: Revision, { executor }: VllmEngine): boolean =>
  nodes > 1 && executor === "mp";

/** The leader's node serves the API, to its own pod alone. */
export function vllmLeaderCommand(
  revision: Revision,
  engine: VllmEngine,
  bucket: string,
): string[] {
  const serve = [
    ...["vllm", "serve", ...engineArguments(revision, engine, bucket)],
    ...["--host", "127.0.0.1", "--port", String(ports.engine)],
    ...(isSpread(revision, engine) ? nodeArguments(revision) : []),
  ];
  if (revision.nodes === 1 || engine.executor === "mp") return serve;
  // vLLM waits for Ray to have as many GPUs as it wants.
  const head = `ray start --head --port=${ports.ray} --disable-usage-stats && exec "$@"`;
  return ["/bin/sh", "-c", head, "vllm", ...serve];
}

/** The other nodes compute, and listen to nobody but their leader. */
export function vllmFollowerCommand(
  revision: Revision,
  engine: VllmEngine,
  bucket: string,
): string[] {
  if (engine.executor === "mp") {
    const common = engineArguments(revision, engine, bucket);
    return ["vllm", "serve", ...common, ...nodeArguments(revision), "--headless"];
  }
  const head = `"$LWS_LEADER_ADDRESS:${ports.ray}"`;
  const join = [
    `until ray health-check --address ${head}; do sleep 2; done`,
    `exec ray start --address ${head} --block --disable-usage-stats`,
  ];
  return ["/bin/sh", "-c", join.join("\n")];
}

/** The processes of a follower's node that have to live, by their command lines. */
export function followerProcesses({ executor }: VllmEngine): string {
  return executor === "mp"
    ? "^VLLM::Worker\\w*|\\bvllm serve\\b"
    : "/raylet\\b|^ray::\\w*Worker\\w*";
}
