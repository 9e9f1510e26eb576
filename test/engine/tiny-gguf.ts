import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type GgufTestTensor, type GgufTestValue, ggufBytes } from "../support/gguf-bytes.ts";
import { type TinyConfig, type TinyWeights, temporaryFolder } from "./tiny-checkpoint.ts";

/** The same small Llama models as tiny-checkpoint.ts, as llama.cpp's converter would write them. */

export const ggmlTypes = { F32: 0, F16: 1, Q4_0: 2, Q4_1: 3, Q8_0: 8, Q4_K: 12, BF16: 30 } as const;

type Values = Record<string, GgufTestValue | number[]>;

export interface TinyGgufOptions {
  /** Added to the header's values, or in their place. */
  values?: Values;
  /** Added to the tensors. */
  tensors?: GgufTestTensor[];
}

export function tinyGgufValues(config: TinyConfig): Values {
  return {
    "general.architecture": "llama",
    "llama.block_count": config.num_hidden_layers,
    "llama.context_length": config.max_position_embeddings,
    "llama.embedding_length": config.hidden_size,
    "llama.feed_forward_length": config.intermediate_size,
    "llama.attention.head_count": config.num_attention_heads,
    "llama.attention.head_count_kv": config.num_key_value_heads,
    "llama.attention.key_length": config.head_dim,
    "llama.attention.value_length": config.head_dim,
    "llama.attention.layer_norm_rms_epsilon": { f32: config.rms_norm_eps },
    "llama.rope.dimension_count": config.head_dim,
    "llama.rope.freq_base": { f32: config.rope_theta },
    "llama.vocab_size": config.vocab_size,
  };
}

/** All tensors in f32, the rows of queries and keys as llama.cpp has them. */
export function tinyGgufTensors(config: TinyConfig, weights: TinyWeights): GgufTestTensor[] {
  return [...weights].map(([name, { shape, values }]) => {
    const isRotated = /\.(q|k)_proj\./.test(name);
    const ordered = isRotated ? interleaved(values, config.head_dim, shape[1] ?? 1) : values;
    return { name: ggufName(name), shape, type: ggmlTypes.F32, data: floats(ordered) };
  });
}

/** Writes `model.gguf` in a folder of its own. */
export function writeTinyGguf(
  config: TinyConfig,
  weights: TinyWeights,
  { values = {}, tensors = [] }: TinyGgufOptions = {},
): string {
  const path = join(temporaryFolder(), "model.gguf");
  const all = [...tinyGgufTensors(config, weights), ...tensors];
  writeFileSync(path, ggufBytes({ ...tinyGgufValues(config), ...values }, all));
  return path;
}

export function floats(values: readonly number[]): Buffer {
  return Buffer.from(Float32Array.from(values).buffer);
}

const partNames: Record<string, string> = {
  input_layernorm: "attn_norm",
  "self_attn.q_proj": "attn_q",
  "self_attn.k_proj": "attn_k",
  "self_attn.v_proj": "attn_v",
  "self_attn.o_proj": "attn_output",
  post_attention_layernorm: "ffn_norm",
  "mlp.gate_proj": "ffn_gate",
  "mlp.up_proj": "ffn_up",
  "mlp.down_proj": "ffn_down",
};

function ggufName(name: string): string {
  const [, layer, part = ""] = /^model\.layers\.(\d+)\.(.+)\.weight$/.exec(name) ?? [];
  if (layer !== undefined) return `blk.${layer}.${partNames[part]}.weight`;
  if (name === "lm_head.weight") return "output.weight";
  return name === "model.norm.weight" ? "output_norm.weight" : "token_embd.weight";
}

/** Row i of each head's first half, then row i of its second, and so on. */
function interleaved(values: readonly number[], headSize: number, width: number): number[] {
  const rows = Array.from({ length: values.length / width }, (_, row) => {
    const pair = Math.floor((row % headSize) / 2) + (row % 2) * (headSize / 2);
    const from = (row - (row % headSize) + pair) * width;
    return values.slice(from, from + width);
  });
  return rows.flat();
}
