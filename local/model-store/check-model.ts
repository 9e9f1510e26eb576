/** Whether a model runs here: asked as early as it can be told, and again when all of it is there. */

import { mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { Checkpoint } from "../../dataplane/engine/checkpoint/checkpoint.ts";
import { parseModelConfig } from "../../dataplane/engine/checkpoint/model-config.ts";
import { EngineError } from "../../dataplane/engine/engine-error.ts";
import { loadTokenizer } from "../../dataplane/tokenizer.ts";
import { TokenizerError } from "../../dataplane/tokenizer-error.ts";
import { ModelStoreError } from "./model-store-error.ts";

export interface ModelFacts {
  parameters: number;
  contextTokens: number;
}

/** The headers of most GGUF files, vocabulary included, are shorter. */
export const ggufProbeBytes = 16 << 20;

/**
 * Opens a model as the engine and the leader do, and reads all but its weights. Throws
 * ModelStoreError "unsupported_model".
 */
export async function checkModel(name: string, path: string): Promise<ModelFacts> {
  return refusing(name, async () => {
    const checkpoint = await Checkpoint.open(path);
    await checkpoint.close();
    await loadTokenizer(path);
    return {
      parameters: checkpoint.parameters,
      contextTokens: checkpoint.config.contextLength,
    };
  });
}

/**
 * Checks what describes a model in Hugging Face's layout, before there are weights. Throws
 * ModelStoreError "unsupported_model".
 */
export async function checkTexts(name: string, folder: string): Promise<void> {
  await refusing(name, async () => {
    parseModelConfig(
      readJson(folder, "config.json"),
      readJson(folder, "generation_config.json") ?? {},
    );
    await loadTokenizer(folder);
  });
}

/** A JSON file of the folder, parsed; undefined when there is none. */
export function readJson(folder: string, name: string): unknown {
  let text: string;
  try {
    text = readFileSync(join(folder, name), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ModelStoreError("unsupported_model", `${name} is no JSON.`, { cause });
  }
}

/**
 * Looks at the beginning of a GGUF file whose rest is still missing: as a file of the announced size
 * with a hole behind. Only what does not run is refused; whether all is well is seen at the end. Throws
 * ModelStoreError "unsupported_model".
 */
export async function checkGgufStart(
  name: string,
  { partPath, fileName, sizeBytes }: { partPath: string; fileName: string; sizeBytes: number },
): Promise<void> {
  const folder = `${partPath}.probe`;
  const probe = join(folder, fileName);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  try {
    writeFileSync(probe, await readStart(partPath, ggufProbeBytes));
    truncateSync(probe, sizeBytes);
    await checkModel(name, probe);
  } catch (error) {
    const cause = error instanceof ModelStoreError ? error.cause : error;
    if (cause instanceof EngineError && cause.code === "unsupported_model") throw error;
    if (cause instanceof TokenizerError) throw error;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function readStart(path: string, lengthBytes: number): Promise<Buffer> {
  const file = await open(path);
  try {
    const buffer = Buffer.alloc(lengthBytes);
    const { bytesRead } = await file.read(buffer, 0, lengthBytes, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

async function refusing<T>(name: string, check: () => Promise<T>): Promise<T> {
  try {
    return await check();
  } catch (cause) {
    const isKnown = cause instanceof EngineError || cause instanceof TokenizerError;
    if (!isKnown) throw cause;
    throw new ModelStoreError("unsupported_model", `${name} does not run here: ${cause.message}`, {
      cause,
    });
  }
}
