import { createHash } from "node:crypto";
import { basename, resolve } from "node:path";
import { EngineError } from "../engine-error.ts";
import { openGguf } from "./gguf.ts";
import { closeAll, openHuggingFaceFolder } from "./huggingface-folder.ts";
import type { ModelConfig } from "./model-config.ts";
import { resolveModelPath } from "./model-path.ts";
import type { MatrixSlice, TensorFile } from "./tensor-file.ts";

/** Of each tensor, so many bytes go into the fingerprint: enough to tell a retrained model. */
const fingerprintBytesPerTensor = 4096;

interface OpenedModel {
  config: ModelConfig;
  /** What describes the model beside its tensors. */
  description: (string | Uint8Array)[];
  fileOf: ReadonlyMap<string, TensorFile>;
}

/** A Llama model on disk, in either layout. Tensors have the names that Hugging Face gives them. */
export class Checkpoint {
  readonly name: string;
  readonly config: ModelConfig;
  /** sha256 over the configuration and, for each tensor, its entry and the first bytes of its data. */
  readonly fingerprint: string;
  /** Elements of all tensors together. */
  readonly parameters: number;
  readonly #fileOf: ReadonlyMap<string, TensorFile>;

  private constructor(name: string, model: OpenedModel, fingerprint: string) {
    this.name = name;
    this.config = model.config;
    this.fingerprint = fingerprint;
    this.#fileOf = model.fileOf;
    this.parameters = [...model.fileOf].reduce(
      (sum, [tensor, file]) => sum + (file.tensors.get(tensor)?.elements ?? 0),
      0,
    );
  }

  /**
   * Reads all but the weights of a folder in the layout of Hugging Face, of a GGUF file, or of a
   * folder with one. Throws EngineError "invalid_checkpoint" or "unsupported_model".
   */
  static async open(path: string): Promise<Checkpoint> {
    const model = await openModel(path);
    try {
      const name = basename(resolve(path)).replace(/\.gguf$/, "");
      return new Checkpoint(name, model, await fingerprintOf(model));
    } catch (error) {
      await closeAll(model.fileOf.values());
      throw error;
    }
  }

  /**
   * A slice of the matrix `name`, whose whole shape is `shape`, as f32 [rows, columns]: the beginning
   * of `into`, if it is given.
   */
  async matrix(
    name: string,
    shape: readonly [number, number],
    slice: MatrixSlice,
    into?: Float32Array<ArrayBuffer>,
  ) {
    return this.#file(name).readMatrix(name, shape, slice, into);
  }

  /** A whole vector as f32 [length]. */
  async vector(name: string, length: number) {
    const whole = { rows: [0, 1], columns: [0, length] } as const;
    return this.#file(name).readMatrix(name, [length], whole);
  }

  async close(): Promise<void> {
    await closeAll(this.#fileOf.values());
  }

  #file(name: string): TensorFile {
    const file = this.#fileOf.get(name);
    if (file !== undefined) return file;
    throw new EngineError(
      "invalid_checkpoint",
      `The checkpoint ${this.name} lacks tensor ${name}.`,
    );
  }
}

async function openModel(path: string): Promise<OpenedModel> {
  const model = resolveModelPath(path);
  if (model.layout === "huggingface") {
    const { config, texts, fileOf } = await openHuggingFaceFolder(model.path);
    return { config, description: texts, fileOf };
  }
  const { config, file, header } = await openGguf(model.path);
  const fileOf = new Map([...file.tensors.keys()].map((tensor) => [tensor, file]));
  return { config, description: [header.bytes], fileOf };
}

async function fingerprintOf({ description, fileOf }: OpenedModel): Promise<string> {
  const hash = createHash("sha256");
  for (const part of description) hash.update(part);
  for (const name of [...fileOf.keys()].sort()) {
    const file = fileOf.get(name);
    const entry = file?.tensors.get(name);
    if (file === undefined || entry === undefined) continue;
    hash.update(JSON.stringify([name, entry.format, entry.shape]));
    hash.update(await file.readStart(entry, fingerprintBytesPerTensor));
  }
  return hash.digest("hex");
}
