import { createReadStream, linkSync, readdirSync, realpathSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, join } from "node:path";
import { resolveModelPath } from "../../dataplane/engine/checkpoint/model-path.ts";
import { EngineError } from "../../dataplane/engine/engine-error.ts";
import { checkModel, readJson } from "./check-model.ts";
import { FileDigest } from "./digest.ts";
import type { ManifestFile } from "./manifest.ts";
import type { PathSource } from "./model-source.ts";
import { ModelStoreError } from "./model-store-error.ts";
import { checkSpace, type PullOptions, pull } from "./pull.ts";
import { selectFiles, selectWeights } from "./select-files.ts";

/** A file of the source. */
interface SourceFile {
  /** Its name in the model's folder. */
  path: string;
  /** Where it really is: the cache of Hugging Face's own tools is made of symbolic links. */
  from: string;
  sizeBytes: number;
  /** On the store's own file system, where it can be linked and takes no room. */
  isNear: boolean;
}

/** Brings a folder or a GGUF file of this machine into the store. Throws ModelStoreError. */
export async function pullFromPath(source: PathSource, options: PullOptions): Promise<void> {
  const model = modelAt(source.path);
  await checkModel(source.path, model.path);
  const suggested = basename(source.path).replace(/\.gguf$/, "");
  const { tell, signal, storeDir } = options;
  await pull(
    {
      source,
      name: suggested,
      origin: { kind: "path", path: source.path },
      isUnchanged: () => false,
      async fetchFiles(folder) {
        const files = filesOf(model, storeDir);
        const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
        const far = files.filter((file) => !file.isNear);
        await checkSpace(
          storeDir,
          far.reduce((sum, file) => sum + file.sizeBytes, 0),
        );
        tell({ type: "planned", files: files.length, sizeBytes, doneBytes: 0 });
        let doneBytes = 0;
        const done: ManifestFile[] = [];
        for (const file of files) {
          done.push(
            await bring(file, join(folder, file.path), signal, (bytes) => {
              doneBytes += bytes;
              tell({ type: "progress", file: file.path, doneBytes, sizeBytes });
            }),
          );
        }
        return done;
      },
    },
    options,
  );
}

function modelAt(path: string): ReturnType<typeof resolveModelPath> {
  try {
    return resolveModelPath(path);
  } catch (cause) {
    if (!(cause instanceof EngineError)) throw cause;
    throw new ModelStoreError("not_found", cause.message, { cause });
  }
}

/** What the engine reads of the model, and what it does not know is left where it is. */
function filesOf(model: ReturnType<typeof resolveModelPath>, storeDir: string): SourceFile[] {
  const storeDevice = statSync(storeDir).dev;
  const sourceFile = (name: string, path: string): SourceFile => {
    const from = realpathSync(path);
    const { size, dev } = statSync(from);
    return { path: name, from, sizeBytes: size, isNear: dev === storeDevice };
  };
  if (model.layout === "gguf") return [sourceFile(basename(model.path), model.path)];
  const all = readdirSync(model.path)
    .filter((name) => statSync(join(model.path, name), { throwIfNoEntry: false })?.isFile())
    .map((name) => sourceFile(name, join(model.path, name)));
  const selection = selectFiles(model.path, all);
  if (selection.layout === "gguf") return [selection.file];
  const index = readJson(model.path, "model.safetensors.index.json");
  return [...selection.texts, ...selectWeights(model.path, all, index)];
}

/** Links or copies one file, and hashes it. */
async function bring(
  file: SourceFile,
  to: string,
  signal: AbortSignal,
  onBytes: (more: number) => void,
): Promise<ManifestFile> {
  rmSync(to, { force: true });
  const digest = new FileDigest();
  const copy = file.isNear && tryLink(file.from, to) ? undefined : await open(to, "wx");
  let sizeBytes = 0;
  try {
    const options = { highWaterMark: 1 << 20, signal };
    for await (const chunk of createReadStream(file.from, options) as AsyncIterable<Buffer>) {
      digest.update(chunk);
      await copy?.appendFile(chunk);
      sizeBytes += chunk.length;
      onBytes(chunk.length);
    }
    await copy?.sync();
  } finally {
    await copy?.close();
  }
  return { name: file.path, sizeBytes, sha256: digest.end().sha256 };
}

/** Another user's file may be read and not linked. */
function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch {
    return false;
  }
}
