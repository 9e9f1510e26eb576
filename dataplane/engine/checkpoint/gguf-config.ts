import { EngineError } from "../engine-error.ts";
import type { GgufMetadata } from "./gguf-metadata.ts";
import { checkedConfig, type ModelConfig, unsupported } from "./model-config.ts";

/** What we compute with, or what says nothing as long as there is no scaling of positions. */
const knownKeys: ReadonlySet<string> = new Set([
  "llama.attention.head_count",
  "llama.attention.head_count_kv",
  "llama.attention.key_length",
  "llama.attention.value_length",
  "llama.attention.layer_norm_rms_epsilon",
  "llama.rope.dimension_count",
  "llama.rope.freq_base",
  "llama.rope.scaling.type",
  "llama.rope.scaling.original_context_length",
  "llama.rope.scaling.finetuned",
]);
/** Any other key that begins so would change the result, unless it has the value given here. */
const strictGroups = /^llama\.(attention\.|rope\.|expert|logit_|residual_|embedding_scale|use_par)/;
const neutralValues: ReadonlyMap<string, number | boolean> = new Map<string, number | boolean>([
  ["llama.attention.causal", true],
  ["llama.attention.clamp_kqv", 0],
  ["llama.attention.max_alibi_bias", 0],
  ["llama.attention.sliding_window", 0],
  ["llama.expert_count", 0],
  ["llama.expert_used_count", 0],
  ["llama.rope.scale_linear", 1],
  ["llama.rope.scaling.factor", 1],
  ["llama.use_parallel_residual", false],
]);

/** Token ids that end an answer: of the text, of a turn, of a message. */
const eosKeys = ["eos", "eot", "eom"].map((name) => `tokenizer.ggml.${name}_token_id`);

/**
 * The dimensions of the Llama model that a GGUF header describes. Throws EngineError
 * "unsupported_model" or "invalid_checkpoint", naming the key.
 */
export function ggufConfig(
  metadata: GgufMetadata,
  { tiedEmbeddings }: { tiedEmbeddings: boolean },
): ModelConfig {
  refuseUnsupported(metadata);
  const hiddenSize = required(metadata, "llama.embedding_length");
  const heads = required(metadata, "llama.attention.head_count");
  const headSize = metadata.integer("llama.attention.key_length") ?? hiddenSize / heads;
  for (const key of ["llama.attention.value_length", "llama.rope.dimension_count"]) {
    const found = metadata.integer(key) ?? headSize;
    if (found !== headSize) throw unsupported(key, found, `${headSize}, the size of a head`);
  }
  return checkedConfig({
    architecture: "LlamaForCausalLM",
    vocabularySize:
      metadata.count("tokenizer.ggml.tokens") ?? required(metadata, "llama.vocab_size"),
    hiddenSize,
    layers: required(metadata, "llama.block_count"),
    heads,
    keyValueHeads: metadata.integer("llama.attention.head_count_kv") ?? heads,
    headSize,
    mlpSize: required(metadata, "llama.feed_forward_length"),
    contextLength: required(metadata, "llama.context_length"),
    normEpsilon: metadata.number("llama.attention.layer_norm_rms_epsilon") ?? 1e-5,
    rope: { theta: metadata.number("llama.rope.freq_base") ?? 10_000 },
    tiedEmbeddings,
    eosTokens: eosTokens(metadata),
  });
}

function refuseUnsupported(metadata: GgufMetadata): void {
  const expect = (key: string, found: unknown, wanted: unknown, supported: string) => {
    if (found !== wanted) throw unsupported(key, found, supported);
  };
  expect("general.architecture", metadata.string("general.architecture"), "llama", '"llama"');
  const parts = metadata.integer("split.count") ?? 0;
  expect("split.count", Math.max(parts, 1), 1, "one file: merge them (llama-gguf-split --merge)");
  const scaling = metadata.string("llama.rope.scaling.type") ?? "none";
  expect("llama.rope.scaling.type", scaling, "none", '"none"');
  for (const key of metadata.keys()) {
    if (!strictGroups.test(key) || knownKeys.has(key)) continue;
    const neutral = neutralValues.get(key);
    const supported = neutral === undefined ? "no such key" : String(neutral);
    expect(key, metadata.scalar(key), neutral ?? null, supported);
  }
}

function eosTokens(metadata: GgufMetadata): number[] {
  const tokens = eosKeys.map((key) => metadata.integer(key));
  return [...new Set(tokens.filter((token) => token !== undefined))];
}

function required(metadata: GgufMetadata, key: string): number {
  const value = metadata.integer(key);
  if (value !== undefined) return value;
  throw new EngineError("invalid_checkpoint", `The GGUF file lacks ${key}.`);
}
