import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { uniformAt } from "../../dataplane/engine/philox.ts";

/** Small random Llama checkpoints, written by the tests themselves. */

export interface TinyTensor {
  dtype: "F32" | "F16" | "BF16";
  shape: number[];
  values: number[];
}

export type TinyWeights = Map<string, { shape: number[]; values: number[] }>;

/** The vocabulary divides by no number of ranks, and the heads are wider than hidden / heads. */
export const tinyConfig = {
  architectures: ["LlamaForCausalLM"],
  hidden_act: "silu",
  vocab_size: 101,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 3,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 8,
  max_position_embeddings: 160,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: true,
  eos_token_id: [] as number[],
};
export type TinyConfig = typeof tinyConfig;

/** A folder that is removed when the test is over. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "axon-engine-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** One that several tests use, who remove it themselves. */
function keptFolder(): string {
  return mkdtempSync(join(tmpdir(), "axon-engine-"));
}

function tinyWeights(config: TinyConfig, seed: number): TinyWeights {
  const weights: TinyWeights = new Map();
  let position = 0;
  const random = (shape: number[], scale: number, middle = 0) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const values = Array.from({ length: count }, () => {
      position += 1;
      return middle + (2 * uniformAt(seed, position) - 1) * scale;
    });
    return { shape, values };
  };
  const { hidden_size: hidden, intermediate_size: mlp, head_dim: head } = config;
  const queries = config.num_attention_heads * head;
  const keys = config.num_key_value_heads * head;
  weights.set("model.embed_tokens.weight", random([config.vocab_size, hidden], 1));
  for (let layer = 0; layer < config.num_hidden_layers; layer += 1) {
    const prefix = `model.layers.${layer}`;
    weights.set(`${prefix}.input_layernorm.weight`, random([hidden], 0.3, 1));
    weights.set(`${prefix}.self_attn.q_proj.weight`, random([queries, hidden], 0.6));
    weights.set(`${prefix}.self_attn.k_proj.weight`, random([keys, hidden], 0.6));
    weights.set(`${prefix}.self_attn.v_proj.weight`, random([keys, hidden], 0.4));
    weights.set(`${prefix}.self_attn.o_proj.weight`, random([hidden, queries], 0.4));
    weights.set(`${prefix}.post_attention_layernorm.weight`, random([hidden], 0.3, 1));
    weights.set(`${prefix}.mlp.gate_proj.weight`, random([mlp, hidden], 0.4));
    weights.set(`${prefix}.mlp.up_proj.weight`, random([mlp, hidden], 0.4));
    weights.set(`${prefix}.mlp.down_proj.weight`, random([hidden, mlp], 0.4));
  }
  weights.set("model.norm.weight", random([hidden], 0.3, 1));
  if (!config.tie_word_embeddings) {
    weights.set("lm_head.weight", random([config.vocab_size, hidden], 0.5));
  }
  return weights;
}

export interface TinyOptions {
  config?: Partial<TinyConfig>;
  dtype?: TinyTensor["dtype"];
  seed?: number;
  /** Weight files that the tensors are dealt out to. */
  files?: number;
  /** Do not remove the folder with the test that wrote it. */
  keep?: boolean;
}

export type TinyCheckpoint = ReturnType<typeof writeTinyCheckpoint>;

/** Writes a checkpoint. `weights` are as a reader of its dtype sees them. */
export function writeTinyCheckpoint(options: TinyOptions = {}) {
  const folder = options.keep ? keptFolder() : temporaryFolder();
  const config = { ...tinyConfig, ...options.config };
  const { dtype = "F32", seed = 1, files = 1 } = options;
  const weights = tinyWeights(config, seed);
  for (const tensor of weights.values()) {
    tensor.values = tensor.values.map((value) => roundTo(dtype, value));
  }
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  const names = [...weights.keys()];
  const weightMap: Record<string, string> = {};
  for (let file = 0; file < files; file += 1) {
    const name = files === 1 ? "model.safetensors" : `model-${file}.safetensors`;
    const own = names.filter((_, index) => index % files === file);
    for (const tensor of own) weightMap[tensor] = name;
    const tensors = own.map((tensor): [string, TinyTensor] => {
      const { shape, values } = weights.get(tensor) ?? { shape: [], values: [] };
      return [tensor, { dtype, shape, values }];
    });
    writeFileSync(join(folder, name), encodeSafetensors(new Map(tensors)));
  }
  if (files > 1) {
    const index = JSON.stringify({ weight_map: weightMap });
    writeFileSync(join(folder, "model.safetensors.index.json"), index);
  }
  const remove = () => rmSync(folder, { recursive: true, force: true });
  return { folder, config, weights, remove };
}

export function encodeSafetensors(tensors: ReadonlyMap<string, TinyTensor>): Buffer {
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  const parts: Buffer[] = [];
  let offset = 0;
  for (const [name, { dtype, shape, values }] of tensors) {
    const data = encodeValues(dtype, values);
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.length] };
    offset += data.length;
    parts.push(data);
  }
  return withHeader(JSON.stringify(header), Buffer.concat(parts));
}

export function withHeader(header: string, data: Buffer): Buffer {
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(header)));
  return Buffer.concat([length, Buffer.from(header), data]);
}

function encodeValues(dtype: TinyTensor["dtype"], values: number[]): Buffer {
  const data = Buffer.alloc(values.length * (dtype === "F32" ? 4 : 2));
  values.forEach((value, i) => {
    if (dtype === "F32") data.writeFloatLE(value, i * 4);
    else if (dtype === "BF16") data.writeUInt16LE(f32Bits(value) >>> 16, i * 2);
    else data.writeUInt16LE(halfBits(value), i * 2);
  });
  return data;
}

/** Cut off rather than rounded: exact for the writer and the reader alike. */
function roundTo(dtype: TinyTensor["dtype"], value: number): number {
  if (dtype === "F32") return Math.fround(value);
  const view = new DataView(new ArrayBuffer(4));
  // A half has 10 bits of fraction, bf16 has 7.
  view.setUint32(0, f32Bits(value) & (dtype === "BF16" ? 0xffff0000 : 0xffffe000));
  return view.getFloat32(0);
}

function f32Bits(value: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  return view.getUint32(0);
}

function halfBits(value: number): number {
  const bits = f32Bits(value);
  const exponent = ((bits >>> 23) & 0xff) - 127 + 15;
  const sign = (bits >>> 16) & 0x8000;
  if (exponent <= 0) return sign | Math.trunc(Math.abs(value) * 2 ** 24);
  return sign | (exponent << 10) | ((bits >>> 13) & 0x3ff);
}
