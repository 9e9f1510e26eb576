import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { byteLevelValues } from "../dataplane/vocabularies.ts";
import { type GgufTestValue, ggufBytes } from "./gguf-bytes.ts";

/** Models for a hub of tests. */

const guide = join(import.meta.dirname, "..", "..", "models", "axon-guide");

/** The files of the bundled model, and some that a repository has and no engine needs. */
export function guideFiles(): Record<string, Buffer> {
  const names = readdirSync(guide).filter((name) => name !== "reference.json");
  return {
    "README.md": Buffer.from("# A model\n"),
    "onnx/model.onnx": Buffer.alloc(200_000),
    "pytorch_model.bin": Buffer.alloc(200_000),
    ...Object.fromEntries(names.map((name) => [name, readFileSync(join(guide, name))])),
  };
}

/** The same with its weights in two files and an index. */
export function shardedGuideFiles(): Record<string, Buffer> {
  const { "model.safetensors": whole = Buffer.alloc(0), ...others } = guideFiles();
  const headerBytes = Number(whole.readBigUInt64LE(0));
  const header: Record<string, { data_offsets?: [number, number] }> = JSON.parse(
    whole.toString("utf8", 8, 8 + headerBytes),
  );
  const data = whole.subarray(8 + headerBytes);
  const names = Object.keys(header).filter((name) => name !== "__metadata__");
  const shards = [names.slice(0, 4), names.slice(4)].map((shard, i) => {
    const parts: Buffer[] = [];
    let end = 0;
    const entries = shard.map((name) => {
      const [from = 0, to = 0] = header[name]?.data_offsets ?? [];
      parts.push(data.subarray(from, to));
      end += to - from;
      return [name, { ...header[name], data_offsets: [end - (to - from), end] }];
    });
    const text = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    const file = `model-0000${i + 1}-of-00002.safetensors`;
    return { file, shard, content: Buffer.concat([length, text, ...parts]) };
  });
  const weightMap = shards.flatMap(({ file, shard }) => shard.map((name) => [name, file]));
  return {
    ...others,
    ...Object.fromEntries(shards.map(({ file, content }) => [file, content])),
    "model.safetensors.index.json": Buffer.from(
      JSON.stringify({ weight_map: Object.fromEntries(weightMap) }),
    ),
  };
}

/** A GGUF file with a tokenizer, one layer, and weights that are all zero. */
export function smallGguf(values: Record<string, GgufTestValue> = {}): Buffer {
  const header = byteLevelValues("default");
  const tokens = header["tokenizer.ggml.tokens"];
  const vocabulary = Array.isArray(tokens) ? tokens.length : 0;
  const shapes: Record<string, number[]> = {
    "token_embd.weight": [vocabulary, 256],
    "output_norm.weight": [256],
    "blk.0.attn_norm.weight": [256],
    "blk.0.ffn_norm.weight": [256],
    ...Object.fromEntries(
      ["q", "k", "v", "output"].map((part) => [`blk.0.attn_${part}.weight`, [256, 256]]),
    ),
    "blk.0.ffn_gate.weight": [512, 256],
    "blk.0.ffn_up.weight": [512, 256],
    "blk.0.ffn_down.weight": [256, 512],
  };
  const tensors = Object.entries(shapes).map(([name, shape]) => {
    const elements = shape.reduce((product, size) => product * size, 1);
    return { name, shape, type: 0, data: Buffer.alloc(elements * 4) };
  });
  return ggufBytes({ ...header, ...values }, tensors);
}
