import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { EngineError } from "../engine-error.ts";

/** Where a model is, and in which layout. */
export interface ModelPath {
  layout: "gguf" | "huggingface";
  /** Of the GGUF file, or of the folder in the layout of Hugging Face. */
  path: string;
}

/**
 * Takes a `.gguf` file, a folder that holds one and no safetensors, or a folder in the layout of
 * Hugging Face. Throws EngineError "invalid_checkpoint" when there are several `.gguf` files.
 */
export function resolveModelPath(path: string): ModelPath {
  if (path.endsWith(".gguf") && !isFolder(path)) return { layout: "gguf", path };
  const files = isFolder(path) ? readdirSync(path).sort() : [];
  const ggufs = files.filter((name) => name.endsWith(".gguf"));
  const [only, ...others] = ggufs;
  if (only === undefined || files.some((name) => name.endsWith(".safetensors"))) {
    return { layout: "huggingface", path };
  }
  if (others.length === 0) return { layout: "gguf", path: join(path, only) };
  const message = `${path} holds several models. Name one of them: ${ggufs.join(", ")}.`;
  throw new EngineError("invalid_checkpoint", message);
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}
