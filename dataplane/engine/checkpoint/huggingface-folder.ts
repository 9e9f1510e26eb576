import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { type ModelConfig, parseModelConfig } from "./model-config.ts";
import { checkTensors } from "./model-tensors.ts";
import { openSafetensors } from "./safetensors.ts";
import { damaged, openFile, type TensorFile } from "./tensor-file.ts";

/** Far beyond any configuration; the index of a large model takes less than 1 MB. */
const maxTextBytes = 1 << 26;

export interface HuggingFaceFolder {
  config: ModelConfig;
  /** config.json and generation_config.json as they are. */
  texts: string[];
  /** Which file has which tensor, all files opened. */
  fileOf: Map<string, TensorFile>;
}

/**
 * Opens a folder in the layout of Hugging Face: config.json, perhaps generation_config.json, and the
 * weights in model.safetensors, or in several files that model.safetensors.index.json lists.
 * Throws EngineError "invalid_checkpoint" or "unsupported_model".
 */
export async function openHuggingFaceFolder(folder: string): Promise<HuggingFaceFolder> {
  const configText = await readText(join(folder, "config.json"));
  const generationPath = join(folder, "generation_config.json");
  const generationText = existsSync(generationPath) ? await readText(generationPath) : "{}";
  const config = parseModelConfig(
    parseJson("config.json", configText),
    parseJson("generation_config.json", generationText),
  );
  const fileOf = await openWeights(folder);
  try {
    const entries = [...fileOf].flatMap(([name, file]) => {
      const entry = file.tensors.get(name);
      return entry === undefined ? [] : [[name, entry] as const];
    });
    checkTensors(config, new Map(entries));
  } catch (error) {
    await closeAll(fileOf.values());
    throw error;
  }
  return { config, texts: [configText, generationText], fileOf };
}

/** Closes each file once. */
export async function closeAll(files: Iterable<TensorFile>): Promise<void> {
  await Promise.all([...new Set(files)].map((file) => file.close()));
}

async function openWeights(folder: string): Promise<Map<string, TensorFile>> {
  const indexPath = join(folder, "model.safetensors.index.json");
  if (!existsSync(indexPath)) {
    const file = await openSafetensors(join(folder, "model.safetensors"));
    return new Map([...file.tensors.keys()].map((tensor) => [tensor, file]));
  }
  const index: { weight_map?: unknown } = Object(parseJson(indexPath, await readText(indexPath)));
  const entries = Object.entries(Object(index.weight_map));
  const files = new Map<string, TensorFile>();
  const fileOf = new Map<string, TensorFile>();
  try {
    for (const [tensor, name] of entries) {
      if (typeof name !== "string" || name !== basename(name)) {
        throw damaged(indexPath, `${tensor} names no file beside it`);
      }
      const file = files.get(name) ?? (await openSafetensors(join(folder, name)));
      files.set(name, file);
      if (!file.tensors.has(tensor)) {
        throw damaged(name, `it lacks ${tensor}, which the index promises`);
      }
      fileOf.set(tensor, file);
    }
  } catch (error) {
    await closeAll(files.values());
    throw error;
  }
  return fileOf;
}

async function readText(path: string): Promise<string> {
  const { handle, sizeBytes } = await openFile(path);
  try {
    if (sizeBytes > maxTextBytes) throw new Error(`it has ${sizeBytes} bytes`);
    return await handle.readFile("utf8");
  } catch (cause) {
    throw damaged(path, "it cannot be read", cause);
  } finally {
    await handle.close();
  }
}

function parseJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw damaged(name, "it is no JSON", cause);
  }
}
