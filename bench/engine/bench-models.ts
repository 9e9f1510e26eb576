import { existsSync } from "node:fs";
import { join } from "node:path";
import { Checkpoint } from "../../dataplane/engine/checkpoint/checkpoint.ts";
import type { ModelConfig } from "../../dataplane/engine/checkpoint/model-config.ts";
import { writeCheckpoint } from "./checkpoint-writer.ts";
import { writeGguf } from "./gguf-writer.ts";
import { randomWeights, smolShape } from "./random-weights.ts";

/** The same model twice: for the embedded engine and for llama.cpp. */
export interface BenchModel {
  /** What it is, for the reader of the results. */
  name: string;
  /** A folder in the layout of Hugging Face, bf16. */
  checkpointDir: string;
  /** Q8_0. */
  ggufPath: string;
  config: ModelConfig;
}

/**
 * Random weights in the shape of SmolLM2-135M; or the weights of the checkpoint `sourcePath`. What
 * was written into `dataDir` before is used again.
 */
export async function prepareModel(dataDir: string, sourcePath?: string): Promise<BenchModel> {
  const source = sourcePath === undefined ? undefined : await Checkpoint.open(sourcePath);
  const id = source === undefined ? "random-135m" : `model-${source.fingerprint.slice(0, 12)}`;
  const checkpointDir = join(dataDir, id);
  const ggufPath = join(dataDir, `${id}.Q8_0.gguf`);
  if (!existsSync(checkpointDir)) {
    console.error(`Writing ${checkpointDir}`);
    if (source === undefined) await writeCheckpoint(checkpointDir, smolShape, randomWeights(1));
    else await copyWeights(source, checkpointDir);
  }
  await source?.close();
  const checkpoint = await Checkpoint.open(checkpointDir);
  if (!existsSync(ggufPath)) {
    console.error(`Writing ${ggufPath}`);
    await writeGguf(ggufPath, checkpoint);
  }
  await checkpoint.close();
  const name = source?.name ?? "random weights in the shape of SmolLM2-135M";
  return { name, checkpointDir, ggufPath, config: checkpoint.config };
}

async function copyWeights(source: Checkpoint, folder: string): Promise<void> {
  const { tiedEmbeddings, rope, hiddenSize, mlpSize } = source.config;
  const isPlainRope = Object.keys(rope).every((key) => key === "theta");
  if (!tiedEmbeddings || !isPlainRope || hiddenSize % 32 !== 0 || mlpSize % 32 !== 0) {
    throw new Error(
      `The bench cannot write ${source.name} for llama.cpp. It writes models whose output head ` +
        "is the embedding, with unscaled rotary embeddings and sizes that 32 divides (SmolLM2).",
    );
  }
  await writeCheckpoint(folder, source.config, (name, shape) => {
    const [outputs = 0, inputs] = shape;
    if (inputs === undefined) return source.vector(name, outputs);
    const whole = { rows: [0, outputs], columns: [0, inputs] } as const;
    return source.matrix(name, [outputs, inputs], whole);
  });
}
