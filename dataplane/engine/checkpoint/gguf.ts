/**
 * A Llama model in a GGUF file, as llama.cpp's converter writes it: the same matrices under other
 * names, the rows of queries and keys in another order.
 */

import { basename } from "node:path";
import { EngineError } from "../engine-error.ts";
import { ggufConfig } from "./gguf-config.ts";
import { type GgufHeader, type GgufTensor, readGgufHeader } from "./gguf-header.ts";
import type { ModelConfig } from "./model-config.ts";
import { checkTensors } from "./model-tensors.ts";
import { damaged, openFile, refuseOverlaps, type TensorEntry, TensorFile } from "./tensor-file.ts";
import { tensorFormats } from "./tensor-formats.ts";

/** ggml's numbers of tensor types, as far as GGUF files are known to have them. */
const typeNames: ReadonlyMap<number, string> = new Map([
  [0, "F32"],
  [1, "F16"],
  [2, "Q4_0"],
  [3, "Q4_1"],
  [6, "Q5_0"],
  [7, "Q5_1"],
  [8, "Q8_0"],
  [10, "Q2_K"],
  [11, "Q3_K"],
  [12, "Q4_K"],
  [13, "Q5_K"],
  [14, "Q6_K"],
  [16, "IQ2_XXS"],
  [17, "IQ2_XS"],
  [18, "IQ3_XXS"],
  [19, "IQ1_S"],
  [20, "IQ4_NL"],
  [21, "IQ3_S"],
  [22, "IQ2_S"],
  [23, "IQ4_XS"],
  [28, "F64"],
  [29, "IQ1_M"],
  [30, "BF16"],
]);

const modelNames: Readonly<Record<string, string>> = {
  "token_embd.weight": "model.embed_tokens.weight",
  "output_norm.weight": "model.norm.weight",
  "output.weight": "lm_head.weight",
};
const layerNames: Readonly<Record<string, string>> = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};
/** Divisors of the rotary frequencies, which Llama 3.1 and later have. */
const frequencyFactorsName = "rope_freqs.weight";

export interface GgufModel {
  config: ModelConfig;
  file: TensorFile;
  header: GgufHeader;
}

/**
 * Opens the file, whose tensors then have the names of Hugging Face. Throws EngineError
 * "invalid_checkpoint" or "unsupported_model".
 */
export async function openGguf(path: string): Promise<GgufModel> {
  const header = readGgufHeader(path);
  const name = basename(path);
  const tensors = namedTensors(name, header);
  const config = ggufConfig(header.metadata, { tiedEmbeddings: !tensors.has("lm_head.weight") });
  for (const [tensor, entry] of tensors) {
    if (/\.(q|k)_proj\./.test(tensor)) entry.interleavedHeadSize = config.headSize;
  }
  checkTensors(config, tensors);
  const { handle } = await openFile(path);
  const file = new TensorFile(path, handle, tensors);
  try {
    const factors = await frequencyFactors(file, config.headSize / 2);
    if (factors !== undefined) config.rope.frequencyFactors = factors;
    return { config, file, header };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

function namedTensors(file: string, header: GgufHeader): Map<string, TensorEntry> {
  const tensors = new Map<string, TensorEntry>();
  for (const tensor of header.tensors) {
    const name = huggingFaceName(tensor.name);
    if (tensors.has(name)) throw damaged(file, `${tensor.name} is there twice`);
    tensors.set(name, tensorEntry(file, tensor, header));
  }
  refuseOverlaps(file, tensors);
  return tensors;
}

/** A tensor that we know nothing of would be left out of the computation. */
function huggingFaceName(name: string): string {
  const known = Object.hasOwn(modelNames, name) ? modelNames[name] : undefined;
  if (known !== undefined) return known;
  if (name === frequencyFactorsName) return name;
  const [, layer, part = ""] = /^blk\.(\d{1,6})\.([a-z_]+)\.weight$/.exec(name) ?? [];
  const own = Object.hasOwn(layerNames, part) ? layerNames[part] : undefined;
  if (own !== undefined) return `model.layers.${Number(layer)}.${own}.weight`;
  const message = `The tensor ${name.slice(0, 80)} is no part of a Llama model that we can run.`;
  throw new EngineError("unsupported_model", message);
}

function tensorEntry(file: string, tensor: GgufTensor, header: GgufHeader): TensorEntry {
  const { name, shape } = tensor;
  const typeName = typeNames.get(tensor.type) ?? `number ${tensor.type}`;
  const format = tensorFormats.get(typeName);
  if (format === undefined) {
    const supported = [...tensorFormats.keys()].join(", ");
    throw new EngineError(
      "unsupported_model",
      `The tensor ${name} of ${file} is of type ${typeName}; supported are ${supported}.`,
    );
  }
  const elements = shape.reduce((product, size) => product * size, 1);
  if ((shape.at(-1) ?? 0) % format.blockLength !== 0) {
    throw damaged(
      file,
      `${name} has rows of ${shape.at(-1)}, which are no whole ${typeName} blocks`,
    );
  }
  const offset = header.dataStart + tensor.offset;
  const bytes = (elements / format.blockLength) * format.blockBytes;
  if (tensor.offset % header.alignment !== 0 || !(offset + bytes <= header.sizeBytes)) {
    throw damaged(
      file,
      `${name} claims ${bytes} bytes from ${offset} on; the file has ${header.sizeBytes}`,
    );
  }
  return { format: typeName, shape, elements, offset, bytes };
}

async function frequencyFactors(file: TensorFile, length: number): Promise<number[] | undefined> {
  if (!file.tensors.has(frequencyFactorsName)) return undefined;
  const whole = { rows: [0, 1], columns: [0, length] } as const;
  const factors = [...(await file.readMatrix(frequencyFactorsName, [length], whole))];
  if (factors.every((factor) => Number.isFinite(factor) && factor > 0)) return factors;
  throw damaged(basename(file.path), `${frequencyFactorsName} has numbers that are not above 0`);
}
