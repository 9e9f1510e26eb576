import { mkdir, open, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ModelConfig } from "../../dataplane/engine/checkpoint/model-config.ts";
import { modelTensors } from "./model-tensors.ts";

/** Gives one tensor of the model: [outputs, inputs] or [length] f32. */
export type WeightSource = (
  name: string,
  shape: readonly number[],
) => Float32Array | Promise<Float32Array>;

/**
 * Writes `folder` in the layout of Hugging Face, weights in bf16. No token ends an answer, so that
 * every run has the length it was asked for. The folder appears when it is complete.
 */
export async function writeCheckpoint(
  folder: string,
  config: ModelConfig,
  weights: WeightSource,
): Promise<void> {
  const unfinished = `${folder}.part`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true });
  await writeFile(join(unfinished, "config.json"), JSON.stringify(configJson(config), null, 2));
  await writeSafetensors(join(unfinished, "model.safetensors"), config, weights);
  await rename(unfinished, folder);
}

function configJson(config: ModelConfig): object {
  return {
    architectures: [config.architecture],
    model_type: "llama",
    vocab_size: config.vocabularySize,
    hidden_size: config.hiddenSize,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.keyValueHeads,
    head_dim: config.headSize,
    intermediate_size: config.mlpSize,
    max_position_embeddings: config.contextLength,
    rms_norm_eps: config.normEpsilon,
    rope_theta: config.rope.theta,
    tie_word_embeddings: true,
    torch_dtype: "bfloat16",
  };
}

async function writeSafetensors(
  path: string,
  config: ModelConfig,
  weights: WeightSource,
): Promise<void> {
  const header: Record<string, object> = {};
  let end = 0;
  for (const { name, shape } of modelTensors(config)) {
    const begin = end;
    end += 2 * elementsOf(shape);
    header[name] = { dtype: "BF16", shape, data_offsets: [begin, end] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  await using file = await open(path, "w");
  await file.appendFile(Buffer.concat([length, json]));
  for (const { name, shape } of modelTensors(config)) {
    await file.appendFile(toBf16(await weights(name, shape)));
  }
}

export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}

/** Rounds to the nearest, ties to even. */
function toBf16(values: Float32Array): Uint8Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const rounded = new Uint16Array(values.length);
  bits.forEach((value, i) => {
    rounded[i] = (value + 0x7fff + ((value >>> 16) & 1)) >>> 16;
  });
  return new Uint8Array(rounded.buffer);
}
