import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { z } from "zod";
import { ggufConfig } from "../dataplane/engine/checkpoint/gguf-config.ts";
import { readGgufHeader } from "../dataplane/engine/checkpoint/gguf-header.ts";
import { resolveModelPath } from "../dataplane/engine/checkpoint/model-path.ts";
import { StageError } from "./part.ts";

/** A model of AXON_MODELS, as far as its folder tells. */
export const stageModelSchema = z.strictObject({
  model: z.string(),
  revision: z.string(),
  contextTokens: z.int().min(1),
  sampling: z.strictObject({
    maxTokens: z.int(),
    temperature: z.number(),
    topK: z.int(),
    topP: z.number(),
  }),
});
export type StageModel = z.infer<typeof stageModelSchema>;

const configSchema = z.looseObject({ max_position_embeddings: z.int().min(1) });
const generationSchema = z.looseObject({
  /** False asks for the likeliest token each time, which is a temperature of 0. */
  do_sample: z.boolean().default(true),
  max_new_tokens: z.int().min(1).max(4096).default(512),
  temperature: z.number().min(0).max(2).default(0.7),
  top_k: z.int().min(0).max(1000).default(40),
  top_p: z.number().gt(0).max(1).default(0.95),
});

/**
 * Describes a model: a Hugging Face checkpoint in a folder, a GGUF file, or a folder with one. Its name
 * is that of the folder or file; its revision holds a hash of what is in it, so that other weights are
 * another revision.
 * @throws StageError model_missing
 */
export function describeModel(path: string): StageModel {
  try {
    const found = resolveModelPath(path);
    const { contents, contextTokens, generation } =
      found.layout === "gguf" ? describeGguf(found.path) : describeFolder(found.path);
    const name = basename(resolve(path)).replace(/\.gguf$/, "");
    return {
      model: name,
      revision: `${queueSafe(name)}-${hashOf(contents)}`,
      contextTokens,
      sampling: samplingOf(generation, contextTokens),
    };
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StageError(
      "model_missing",
      `${resolve(path)} is no model: ${why.replace(/\.$/, "")}. Name a folder with a Hugging Face ` +
        "checkpoint of the Llama architecture (config.json, tokenizer.json, *.safetensors), or a " +
        "GGUF file, with --model PATH.",
      cause,
    );
  }
}

/** What a request gets that asks for nothing else, by the content of a generation_config.json. */
export function samplingOf(
  generationConfig: unknown,
  contextTokens: number,
): StageModel["sampling"] {
  const generation = generationSchema.parse(generationConfig);
  return {
    maxTokens: Math.min(generation.max_new_tokens, contextTokens),
    temperature: generation.do_sample ? generation.temperature : 0,
    topK: generation.top_k,
    topP: generation.top_p,
  };
}

interface ModelFacts {
  /** Paths of the files that make the model. */
  contents: string[];
  contextTokens: number;
  generation: z.infer<typeof generationSchema>;
}

function describeFolder(folder: string): ModelFacts {
  const files = readdirSync(folder).sort();
  const weights = files.filter((name) => name.endsWith(".safetensors"));
  if (weights.length === 0) throw new Error("it holds no .safetensors file, and no .gguf file");
  const config = configSchema.parse(readJson(folder, "config.json"));
  const generation = generationSchema.parse(
    files.includes("generation_config.json") ? readJson(folder, "generation_config.json") : {},
  );
  const names = [
    ...weights,
    ...files.filter((file) => /config\.json$|^tokenizer|^chat_template/.test(file)),
  ];
  return {
    contents: names.map((name) => join(folder, name)),
    contextTokens: config.max_position_embeddings,
    generation,
  };
}

function describeGguf(path: string): ModelFacts {
  const { metadata } = readGgufHeader(path);
  const { contextLength } = ggufConfig(metadata, { tiedEmbeddings: true });
  // Written in f32, which is not exactly the number that was meant.
  const rounded = (key: string) => {
    const value = metadata.number(key);
    return value === undefined ? undefined : Number(value.toPrecision(6));
  };
  const generation = generationSchema.parse({
    temperature: rounded("general.sampling.temp"),
    top_k: metadata.integer("general.sampling.top_k"),
    top_p: rounded("general.sampling.top_p"),
  });
  return { contents: [path], contextTokens: contextLength, generation };
}

function readJson(folder: string, name: string): unknown {
  return JSON.parse(readFileSync(join(folder, name), "utf8"));
}

/** A queue's name is at most 80 letters, digits, hyphens and underscores. */
export function queueSafe(name: string): string {
  return name.replace(/[^A-Za-z0-9_-]+/g, "-").slice(0, 50);
}

const sampleBytes = 64 * 1024;
const samples = 128;

/** Reads samples spread over each file, and all of a small one: a large model would take minutes. */
function hashOf(paths: string[]): string {
  const hash = createHash("sha256");
  const buffer = Buffer.alloc(sampleBytes);
  for (const path of paths) {
    const file = openSync(path, "r");
    const { size } = fstatSync(file);
    hash.update(`${basename(path)}:${size}:`);
    const step = Math.max(sampleBytes, Math.floor(size / samples));
    for (let at = 0; at < size; at += step) {
      hash.update(buffer.subarray(0, readSync(file, buffer, 0, sampleBytes, at)));
    }
    closeSync(file);
  }
  return hash.digest("hex").slice(0, 12);
}
