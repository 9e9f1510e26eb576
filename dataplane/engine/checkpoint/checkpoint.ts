import { createHash, type Hash } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { EngineError } from "../engine-error.ts";
import { type ModelConfig, parseModelConfig } from "./model-config.ts";
import { type MatrixSlice, SafetensorsFile } from "./safetensors.ts";

/** Of each tensor, so many bytes go into the fingerprint: enough to tell a retrained model. */
const fingerprintBytesPerTensor = 4096;

/**
 * A folder in the layout of Hugging Face: config.json, perhaps generation_config.json, and the
 * weights in model.safetensors, or in several files that model.safetensors.index.json lists.
 */
export class Checkpoint {
  readonly name: string;
  readonly config: ModelConfig;
  /** sha256 over the configuration and, for each tensor, its entry and the first bytes of its data. */
  readonly fingerprint: string;
  /** Elements of all tensors together. */
  readonly parameters: number;
  readonly #fileOf: ReadonlyMap<string, SafetensorsFile>;

  private constructor(
    name: string,
    config: ModelConfig,
    fingerprint: string,
    fileOf: Map<string, SafetensorsFile>,
  ) {
    this.name = name;
    this.config = config;
    this.fingerprint = fingerprint;
    this.#fileOf = fileOf;
    this.parameters = [...fileOf].reduce(
      (sum, [tensor, file]) => sum + (file.tensors.get(tensor)?.elements ?? 0),
      0,
    );
  }

  /** Reads all but the weights. Throws EngineError "invalid_checkpoint" or "unsupported_model". */
  static async open(folder: string): Promise<Checkpoint> {
    const configText = await readText(join(folder, "config.json"));
    const generationPath = join(folder, "generation_config.json");
    const generationText = existsSync(generationPath) ? await readText(generationPath) : "{}";
    const config = parseModelConfig(
      parseJson("config.json", configText),
      parseJson("generation_config.json", generationText),
    );
    const fileOf = await openWeights(folder);
    const hash = createHash("sha256").update(configText).update(generationText);
    await hashTensors(hash, fileOf);
    return new Checkpoint(basename(resolve(folder)), config, hash.digest("hex"), fileOf);
  }

  /** A slice of the matrix `name`, whose whole shape is `shape`, as f32 [rows, columns]. */
  async matrix(name: string, shape: readonly [number, number], slice: MatrixSlice) {
    return this.#file(name).readMatrix(name, shape, slice);
  }

  /** A whole vector as f32 [length]. */
  async vector(name: string, length: number) {
    const whole = { rows: [0, 1], columns: [0, length] } as const;
    return this.#file(name).readMatrix(name, [length], whole);
  }

  async close(): Promise<void> {
    await Promise.all([...new Set(this.#fileOf.values())].map((file) => file.close()));
  }

  #file(name: string): SafetensorsFile {
    const file = this.#fileOf.get(name);
    if (file !== undefined) return file;
    throw new EngineError(
      "invalid_checkpoint",
      `The checkpoint ${this.name} lacks tensor ${name}.`,
    );
  }
}

/** Which file has which tensor, all files opened. */
async function openWeights(folder: string): Promise<Map<string, SafetensorsFile>> {
  const indexPath = join(folder, "model.safetensors.index.json");
  if (!existsSync(indexPath)) {
    const file = await SafetensorsFile.open(join(folder, "model.safetensors"));
    return new Map([...file.tensors.keys()].map((tensor) => [tensor, file]));
  }
  const index: { weight_map?: unknown } = Object(parseJson(indexPath, await readText(indexPath)));
  const entries = Object.entries(Object(index.weight_map));
  const files = new Map<string, SafetensorsFile>();
  const fileOf = new Map<string, SafetensorsFile>();
  try {
    for (const [tensor, name] of entries) {
      if (typeof name !== "string" || name !== basename(name)) {
        throw new EngineError(
          "invalid_checkpoint",
          `${indexPath}: ${tensor} names no file beside it.`,
        );
      }
      const file = files.get(name) ?? (await SafetensorsFile.open(join(folder, name)));
      files.set(name, file);
      if (!file.tensors.has(tensor)) {
        throw new EngineError(
          "invalid_checkpoint",
          `${name} lacks ${tensor}, which the index promises.`,
        );
      }
      fileOf.set(tensor, file);
    }
  } catch (error) {
    await Promise.all([...files.values()].map((file) => file.close()));
    throw error;
  }
  return fileOf;
}

async function hashTensors(hash: Hash, fileOf: Map<string, SafetensorsFile>): Promise<void> {
  for (const name of [...fileOf.keys()].sort()) {
    const file = fileOf.get(name);
    const entry = file?.tensors.get(name);
    if (file === undefined || entry === undefined) continue;
    hash.update(JSON.stringify([name, entry.dtype, entry.shape]));
    hash.update(await file.readStart(entry, fingerprintBytesPerTensor));
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    throw new EngineError("invalid_checkpoint", `${path} cannot be read.`, { cause });
  }
}

function parseJson(name: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new EngineError("invalid_checkpoint", `${name} is no JSON.`, { cause });
  }
}
