/** What a server's metrics say of its load. */
export interface ServerLoad {
  runningRequests: number;
  waitingRequests: number;
  /** Share of the room for keys and values that is in use, 0 to 1. */
  cacheUse: number;
  /** Pages of that room; 0 where the server does not tell. */
  cachePages: number;
  /** Grows with each step of the engine; undefined where the server does not tell. */
  steps: number | undefined;
  reusedTokens: number;
  preemptions: number;
}

/** Names of the same thing at vLLM, SGLang and llama.cpp; the first that is there counts. */
const names = {
  runningRequests: [
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "llamacpp:requests_processing",
  ],
  waitingRequests: [
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "llamacpp:requests_deferred",
  ],
  cacheUse: ["vllm:kv_cache_usage_perc", "sglang:token_usage", "llamacpp:kv_cache_usage_ratio"],
  // SGLang counts tokens only when a request ends.
  steps: ["vllm:iteration_tokens_total_count", "llamacpp:n_decode_total"],
  reusedTokens: ["vllm:prefix_cache_hits_total"],
  preemptions: ["vllm:num_preemptions_total"],
} satisfies Record<string, string[]>;

const cacheInfo = "vllm:cache_config_info";

/**
 * Reads the text format of Prometheus, version 0.0.4: lines of `name{label="value",…} number`. Samples of
 * one name with several labels (engines of a server) are added; of shares the largest counts.
 */
export function readLoad(text: string): ServerLoad {
  const sums = new Map<string, number>();
  const largest = new Map<string, number>();
  let cachePages = 0;
  for (const line of text.split("\n")) {
    const sample = /^([a-zA-Z_:][\w:]*)(\{.*\})?\s+(\S+)/.exec(line);
    if (sample === null) continue;
    const [, name = "", labels = "", value = ""] = sample;
    sums.set(name, (sums.get(name) ?? 0) + Number(value));
    largest.set(name, Math.max(largest.get(name) ?? 0, Number(value)));
    if (name === cacheInfo) cachePages += Number(/num_gpu_blocks="(\d+)"/.exec(labels)?.[1] ?? 0);
  }
  const firstOf = (of: readonly string[], values = sums) =>
    of.map((name) => values.get(name)).find((value) => value !== undefined);
  return {
    runningRequests: firstOf(names.runningRequests) ?? 0,
    waitingRequests: firstOf(names.waitingRequests) ?? 0,
    cacheUse: firstOf(names.cacheUse, largest) ?? 0,
    steps: firstOf(names.steps),
    reusedTokens: firstOf(names.reusedTokens) ?? 0,
    preemptions: firstOf(names.preemptions) ?? 0,
    cachePages,
  };
}
