import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import { checkModel } from "./check-model.ts";
import { interrupted } from "./hub-http.ts";
import { processesWithModel } from "./in-use.ts";
import {
  type Manifest,
  type ManifestFile,
  manifestName,
  manifestText,
  namePattern,
} from "./manifest.ts";
import { type ModelSource, sourceText } from "./model-source.ts";
import { ModelStoreError, toModelStoreError } from "./model-store-error.ts";
import type { TellPull } from "./pull-events.ts";
import { bytesText } from "./quantities.ts";
import {
  beginPull,
  bundledModel,
  inspectModel,
  lockModel,
  pullingPath,
  putInPlace,
  type StoredModel,
} from "./store-folder.ts";

export interface PullOptions {
  storeDir: string;
  /** In the store, if not the one that the source suggests. */
  name?: string | undefined;
  /** Stops the pull; what has arrived is kept. */
  signal: AbortSignal;
  tell: TellPull;
}

/** What a way of pulling does; the rest is the same for all. */
export interface PullWork {
  source: ModelSource;
  /** The name that the source suggests. */
  name: string;
  /** The manifest's account of where the model comes from. */
  origin: Manifest["source"];
  /** Whether the model that has the name already is this one, as it is. */
  isUnchanged: (stored: StoredModel) => boolean;
  /** Brings all files into `folder`, checked. */
  fetchFiles: (folder: string, name: string) => Promise<ManifestFile[]>;
}

/**
 * Brings a model into the store, under a lock, and puts it in place when all of it is there and can be
 * opened. Tells `pulled` at the end. Throws ModelStoreError.
 */
export async function pull(work: PullWork, options: PullOptions): Promise<void> {
  const { storeDir, signal } = options;
  const name = checkedName(options.name ?? work.name);
  try {
    const unlock = lockModel(storeDir, name);
    try {
      await pullLocked(work, options, name);
    } catch (error) {
      // Nothing can be gone on with.
      const isHopeless = error instanceof ModelStoreError && error.code === "unsupported_model";
      if (isHopeless) rmSync(pullingPath(storeDir, name), { recursive: true, force: true });
      throw error;
    } finally {
      unlock();
    }
  } catch (error) {
    if (signal.aborted) throw interrupted();
    throw toModelStoreError(error, storeDir);
  }
}

async function pullLocked(work: PullWork, options: PullOptions, name: string): Promise<void> {
  const { storeDir, tell } = options;
  const { source, origin } = work;
  const commit = origin.kind === "hub" ? { commit: origin.commit } : {};
  tell({ type: "found", name, source: sourceText(source), ...commit });
  const stored = inspectModel(storeDir, name);
  if (stored !== undefined) {
    refuseOther(stored, origin);
    if ("manifest" in stored && work.isUnchanged(stored)) {
      const { path, sizeBytes } = stored;
      tell({ type: "pulled", name, path, sizeBytes, unchanged: true });
      return;
    }
    refuseInUse(storeDir, name, "replaced");
  }
  const folder = beginPull(storeDir, name, sourceText(source));
  const files = await work.fetchFiles(folder, name);
  options.signal.throwIfAborted();
  const facts = await checkModel(name, folder);
  const manifest = { version: 1, source: origin, pulledAt: new Date().toISOString() } as const;
  writeFileSync(join(folder, manifestName), manifestText({ ...manifest, ...facts, files }));
  keepOnly(folder, [manifestName, ...files.map((file) => file.name)]);
  refuseInUse(storeDir, name, "replaced");
  putInPlace(storeDir, name);
  const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
  tell({ type: "pulled", name, path: join(storeDir, name), sizeBytes, unchanged: false });
}

/** Throws ModelStoreError "no_space" when the store's disk has fewer bytes left than are needed. */
export async function checkSpace(storeDir: string, neededBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(storeDir);
  const freeBytes = bavail * bsize;
  if (neededBytes <= freeBytes) return;
  throw new ModelStoreError(
    "no_space",
    `${bytesText(neededBytes)} more are needed, and the disk of ${storeDir} has ` +
      `${bytesText(freeBytes)} left. Make room (axon models list, axon models rm NAME), or set ` +
      "AXON_MODELS_DIR to another disk.",
  );
}

/** Throws ModelStoreError "in_use" when a stage or a rank runs with the model. */
export function refuseInUse(storeDir: string, name: string, fate: "replaced" | "removed"): void {
  const pids = processesWithModel(join(storeDir, name));
  if (pids.length === 0) return;
  throw new ModelStoreError(
    "in_use",
    `${name} cannot be ${fate}: a stage that runs uses it (pid ${pids.join(", ")}). Stop it first.`,
  );
}

function checkedName(name: string): string {
  if (name === bundledModel.name) {
    throw new ModelStoreError(
      "name_taken",
      `${name} is the model that comes with Axon. Choose another name with --name.`,
    );
  }
  if (namePattern.test(name)) return name;
  throw new ModelStoreError(
    "invalid_source",
    `"${name}" is no name for a model: use letters, digits, "_", ".", "+" and "-". Choose one with ` +
      "--name.",
  );
}

/** Another revision replaces a model; another model does not. */
function refuseOther(
  stored: NonNullable<ReturnType<typeof inspectModel>>,
  origin: Manifest["source"],
): void {
  const { name } = stored;
  const taken = (what: string) =>
    new ModelStoreError(
      "name_taken",
      `The store has ${what} under the name ${name}. Choose another with --name, or remove that one: ` +
        `axon models rm ${name}`,
    );
  if (!("manifest" in stored)) {
    if (!stored.isPulled) throw taken("something that no pull has brought");
    return;
  }
  const { source } = stored.manifest;
  if (identityOf(source) !== identityOf(origin)) throw taken(identityOf(source));
}

/** What stays the same from one revision of a model to the next. */
function identityOf(origin: Manifest["source"]): string {
  if (origin.kind === "path") return origin.path;
  return origin.file === undefined ? origin.id : `${origin.id}:${origin.file}`;
}

function keepOnly(folder: string, names: readonly string[]): void {
  for (const name of readdirSync(folder)) {
    if (!names.includes(name)) rmSync(join(folder, name), { recursive: true });
  }
}
