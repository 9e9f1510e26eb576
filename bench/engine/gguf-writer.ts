import { open, rename } from "node:fs/promises";
import type { Checkpoint } from "../../dataplane/engine/checkpoint/checkpoint.ts";
import type { ModelConfig } from "../../dataplane/engine/checkpoint/model-config.ts";
import { elementsOf } from "./checkpoint-writer.ts";
import { type ModelTensor, modelTensors } from "./model-tensors.ts";

/*
 * GGUF version 3, as far as a Llama model in Q8_0 needs it
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
 */

const alignment = 32;
/** Weights of a Q8_0 block, and its bytes: an f16 scale and 32 signed bytes. */
const blockLength = 32;
const blockBytes = 34;

const valueType = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9 } as const;
const tensorType = { f32: 0, q8_0: 8 } as const;
const tokenType = { normal: 1, unknown: 2, control: 3, byte: 6 } as const;
/** `general.file_type` of a model that is mostly Q8_0. */
const mostlyQ8 = 7;

/**
 * Writes the model for llama.cpp: matrices in Q8_0, norms in f32. Its vocabulary only has the right
 * size, for prompts are given as token ids. The file appears when it is complete.
 */
export async function writeGguf(path: string, checkpoint: Checkpoint): Promise<void> {
  const tensors = modelTensors(checkpoint.config);
  const unfinished = `${path}.part`;
  const file = await open(unfinished, "w");
  try {
    await file.appendFile(header(checkpoint.config, tensors));
    for (const tensor of tensors) {
      await file.appendFile(padded(await tensorBytes(checkpoint, tensor)));
    }
  } finally {
    await file.close();
  }
  await rename(unfinished, path);
}

function header(config: ModelConfig, tensors: readonly ModelTensor[]): Buffer {
  const values = [...modelValues(config), ...vocabularyValues(config.vocabularySize)];
  let offset = 0;
  const entries = tensors.map(({ ggufName, shape }) => {
    const type = shape.length === 1 ? tensorType.f32 : tensorType.q8_0;
    // GGUF names the dimension first that runs fastest.
    const dimensions = shape.toReversed().map(u64);
    const entry = [string(ggufName), u32(shape.length), ...dimensions, u32(type), u64(offset)];
    offset += Math.ceil(bytesOf(shape) / alignment) * alignment;
    return Buffer.concat(entry);
  });
  const counts = [u64(tensors.length), u64(values.length)];
  return padded(Buffer.concat([Buffer.from("GGUF"), u32(3), ...counts, ...values, ...entries]));
}

function modelValues(config: ModelConfig): Buffer[] {
  const integers = {
    "general.file_type": mostlyQ8,
    "general.quantization_version": 2,
    "llama.block_count": config.layers,
    "llama.context_length": config.contextLength,
    "llama.embedding_length": config.hiddenSize,
    "llama.feed_forward_length": config.mlpSize,
    "llama.attention.head_count": config.heads,
    "llama.attention.head_count_kv": config.keyValueHeads,
    "llama.rope.dimension_count": config.headSize,
    "llama.vocab_size": config.vocabularySize,
  };
  const floats = {
    "llama.attention.layer_norm_rms_epsilon": config.normEpsilon,
    "llama.rope.freq_base": config.rope.theta,
  };
  return [
    value("general.architecture", "string", string("llama")),
    value("general.name", "string", string("bench")),
    ...Object.entries(integers).map(([key, number]) => value(key, "uint32", u32(number))),
    ...Object.entries(floats).map(([key, number]) => value(key, "float32", f32(number))),
  ];
}

/** Three special tokens, the 256 bytes, and words that only differ. No token ends an answer. */
function vocabularyValues(size: number): Buffer[] {
  const tokens = Array.from({ length: size }, (_, id): [string, number] => {
    if (id === 0) return ["<unk>", tokenType.unknown];
    if (id <= 2) return [id === 1 ? "<s>" : "</s>", tokenType.control];
    if (id > 258) return [`▁word${id}`, tokenType.normal];
    return [`<0x${(id - 3).toString(16).toUpperCase().padStart(2, "0")}>`, tokenType.byte];
  });
  const array = (type: keyof typeof valueType, items: Buffer[]) =>
    Buffer.concat([u32(valueType[type]), u64(items.length), ...items]);
  const texts = tokens.map(([text]) => string(text));
  const scores = tokens.map((_, id) => f32(-id));
  const types = tokens.map(([, type]) => i32(type));
  return [
    value("tokenizer.ggml.model", "string", string("llama")),
    value("tokenizer.ggml.tokens", "array", array("string", texts)),
    value("tokenizer.ggml.scores", "array", array("float32", scores)),
    value("tokenizer.ggml.token_type", "array", array("int32", types)),
    value("tokenizer.ggml.bos_token_id", "uint32", u32(1)),
    value("tokenizer.ggml.eos_token_id", "uint32", u32(2)),
    value("tokenizer.ggml.unknown_token_id", "uint32", u32(0)),
  ];
}

async function tensorBytes(checkpoint: Checkpoint, tensor: ModelTensor): Promise<Buffer> {
  const { name, shape, rotaryHeads } = tensor;
  const [outputs, inputs] = shape;
  if (inputs === undefined) return bytes(await checkpoint.vector(name, outputs));
  const whole = { rows: [0, outputs], columns: [0, inputs] } as const;
  const weights = await checkpoint.matrix(name, [outputs, inputs], whole);
  return quantize(
    rotaryHeads === undefined ? weights : interleave(weights, inputs, outputs / rotaryHeads),
  );
}

/** Brings dimension i of a head's first half and i of its second beside each other. */
function interleave(weights: Float32Array, inputs: number, headSize: number): Float32Array {
  const result = new Float32Array(weights.length);
  const half = headSize / 2;
  for (let row = 0; row < weights.length / inputs; row += 1) {
    const head = row - (row % headSize);
    const dimension = row % headSize;
    const to = head + (dimension < half ? 2 * dimension : 2 * (dimension - half) + 1);
    result.set(weights.subarray(row * inputs, (row + 1) * inputs), to * inputs);
  }
  return result;
}

/** Q8_0: of each 32 weights, the largest becomes ±127. */
function quantize(weights: Float32Array): Buffer {
  const blocks = weights.length / blockLength;
  const result = Buffer.alloc(blocks * blockBytes);
  for (let block = 0; block < blocks; block += 1) {
    const values = weights.subarray(block * blockLength, (block + 1) * blockLength);
    const scale = values.reduce((most, x) => Math.max(most, Math.abs(x)), 0) / 127;
    const at = block * blockBytes;
    result.writeUInt16LE(toHalf(scale), at);
    if (scale === 0) continue;
    for (let i = 0; i < blockLength; i += 1) {
      result.writeInt8(Math.round((values[i] ?? 0) / scale), at + 2 + i);
    }
  }
  return result;
}

/** IEEE 754 binary16 of a scale: not negative, and below 65,504. */
function toHalf(scale: number): number {
  const exponent = Math.max(-14, Math.floor(Math.log2(scale)));
  const fraction = Math.round((scale / 2 ** exponent) * 1024);
  // A fraction below 1,024 is subnormal; one that was rounded up to 2,048 carries by itself.
  return fraction < 1024 ? fraction : (exponent + 15) * 1024 + fraction - 1024;
}

function bytesOf(shape: readonly number[]): number {
  return shape.length === 1
    ? elementsOf(shape) * 4
    : (elementsOf(shape) / blockLength) * blockBytes;
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc(-content.length & (alignment - 1))]);
}

function bytes(values: Float32Array): Buffer {
  return Buffer.from(values.buffer, values.byteOffset, values.byteLength);
}

function value(key: string, type: keyof typeof valueType, content: Buffer): Buffer {
  return Buffer.concat([string(key), u32(valueType[type]), content]);
}

function string(text: string): Buffer {
  const content = Buffer.from(text);
  return Buffer.concat([u64(content.length), content]);
}

function u32(number: number): Buffer {
  return bytesBy(4, (view) => view.setUint32(0, number, true));
}

function i32(number: number): Buffer {
  return bytesBy(4, (view) => view.setInt32(0, number, true));
}

function f32(number: number): Buffer {
  return bytesBy(4, (view) => view.setFloat32(0, number, true));
}

function u64(number: number): Buffer {
  return bytesBy(8, (view) => view.setBigUint64(0, BigInt(number), true));
}

function bytesBy(length: number, write: (view: DataView) => void): Buffer {
  const buffer = new ArrayBuffer(length);
  write(new DataView(buffer));
  return Buffer.from(buffer);
}
