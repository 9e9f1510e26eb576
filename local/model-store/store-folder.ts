/**
 * The store: a folder of models, each a folder of its own.
 *
 *   NAME/axon-model.json    the manifest: with it a model is complete
 *   NAME/…                  the files that it lists
 *   .pulling/NAME/          what a pull has so far; renamed to NAME when all of it is there and checked
 *   .pulling/NAME.lock      who pulls or removes it now
 */

import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join, resolve } from "node:path";
import { z } from "zod";
import { takeLockFile } from "../lock-file.ts";
import { root } from "../paths.ts";
import { type Manifest, manifestName, namePattern, readManifest } from "./manifest.ts";
import { ModelStoreError } from "./model-store-error.ts";

/** A complete model of the store. */
export interface StoredModel {
  name: string;
  path: string;
  manifest: Manifest;
  sizeBytes: number;
}

/** A folder that cannot be used as it is, and why. */
export interface BrokenModel {
  name: string;
  why: string;
  /** It came by a pull, and another pull may replace it. */
  isPulled: boolean;
}

/** A pull that was stopped, or goes on now. */
export interface UnfinishedModel {
  name: string;
  /** What to pull again, as it was given; unknown when the pull was stopped at its very start. */
  source: string | undefined;
  sizeBytes: number;
}

/** The model that comes with Axon. */
export const bundledModel = { name: "axon-guide", path: join(root, "models", "axon-guide") };

const pullingFolder = ".pulling";
/** In the folder of an unfinished model: what is pulled there. */
const pullNoteName = "axon-pull.json";
const pullNoteSchema = z.object({ source: z.string() });

/** Where models are kept: AXON_MODELS_DIR, or `axon/models` in the user's cache. */
export function modelsDir(env: NodeJS.ProcessEnv = process.env): string {
  const named = env["AXON_MODELS_DIR"];
  if (named !== undefined && named !== "") return resolve(named);
  const cache = env["XDG_CACHE_HOME"];
  // The XDG specification has relative paths ignored.
  const base = cache !== undefined && isAbsolute(cache) ? cache : join(homedir(), ".cache");
  return join(base, "axon", "models");
}

/** The models of the store by name, and what else is there under a model's name. */
export function listStore(storeDir: string) {
  const models: StoredModel[] = [];
  const broken: BrokenModel[] = [];
  for (const name of foldersIn(storeDir)) {
    const found = inspect(storeDir, name);
    if ("why" in found) broken.push(found);
    else models.push(found);
  }
  const unfinished = foldersIn(join(storeDir, pullingFolder)).map((name): UnfinishedModel => {
    const folder = pullingPath(storeDir, name);
    return { name, source: noteOf(folder), sizeBytes: sizeOf(folder) };
  });
  return { models, broken, unfinished };
}

/** What has a name in the store: a complete model, something else, or nothing. */
export function inspectModel(
  storeDir: string,
  name: string,
): StoredModel | BrokenModel | undefined {
  const path = join(storeDir, name);
  if (!namePattern.test(name) || !exists(path)) return undefined;
  if (isFolder(path)) return inspect(storeDir, name);
  return { name, isPulled: false, why: "it is no folder" };
}

/** Where a pull of a model collects its files. */
export function pullingPath(storeDir: string, name: string): string {
  return join(storeDir, pullingFolder, name);
}

/** Makes the folder of a pull, and notes in it what is pulled. Returns its path. */
export function beginPull(storeDir: string, name: string, source: string): string {
  const folder = pullingPath(storeDir, name);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, pullNoteName), JSON.stringify({ source }));
  return folder;
}

/**
 * Makes the store if need be and takes the lock of a model, which is given back by the function that
 * is returned. Throws ModelStoreError "busy".
 */
export function lockModel(storeDir: string, name: string): () => void {
  mkdirSync(join(storeDir, pullingFolder), { recursive: true });
  const result = takeLockFile(join(storeDir, pullingFolder, `${name}.lock`));
  if ("release" in result) return result.release;
  throw new ModelStoreError(
    "busy",
    `Another process (pid ${result.holder.pid}) pulls or removes ${name} at this moment. Wait for ` +
      "it, or stop it.",
  );
}

/** Puts a complete folder in its place, and what was there before away. The caller has the lock. */
export function putInPlace(storeDir: string, name: string): void {
  const place = join(storeDir, name);
  const old = join(storeDir, pullingFolder, `.${name}.old`);
  rmSync(old, { recursive: true, force: true });
  if (exists(place)) renameSync(place, old);
  renameSync(pullingPath(storeDir, name), place);
  rmSync(old, { recursive: true, force: true });
}

/** Deletes a model, complete or not. The caller has the lock. */
export function deleteModel(storeDir: string, name: string): void {
  // Renamed first: whoever dies while it deletes leaves no half model under the name.
  const old = join(storeDir, pullingFolder, `.${name}.old`);
  rmSync(old, { recursive: true, force: true });
  if (isFolder(join(storeDir, name))) renameSync(join(storeDir, name), old);
  for (const path of [old, pullingPath(storeDir, name)]) {
    rmSync(path, { recursive: true, force: true });
  }
}

function inspect(storeDir: string, name: string): StoredModel | BrokenModel {
  const path = join(storeDir, name);
  let manifest: Manifest;
  try {
    manifest = readManifest(path);
  } catch {
    return { name, isPulled: false, why: `it has no ${manifestName} that can be read` };
  }
  for (const file of manifest.files) {
    const found = lstatSync(join(path, file.name), { throwIfNoEntry: false });
    if (found?.isFile() && found.size === file.sizeBytes) continue;
    const what = found === undefined ? "is missing" : "is not the file that was pulled";
    return { name, isPulled: true, why: `${file.name} ${what}` };
  }
  const sizeBytes = manifest.files.reduce((sum, file) => sum + file.sizeBytes, 0);
  return { name, path, manifest, sizeBytes };
}

/** Folders that may be models: what a symbolic link leads to is not in the store. */
function foldersIn(path: string): string[] {
  if (!existsSync(path)) return [];
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && namePattern.test(entry.name))
    .map((entry) => entry.name)
    .sort();
}

function exists(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

function isFolder(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function noteOf(folder: string): string | undefined {
  try {
    const text = readFileSync(join(folder, pullNoteName), "utf8");
    return pullNoteSchema.parse(JSON.parse(text)).source;
  } catch {
    return undefined;
  }
}

function sizeOf(folder: string): number {
  return readdirSync(folder).reduce((sum, name) => {
    return sum + (lstatSync(join(folder, name), { throwIfNoEntry: false })?.size ?? 0);
  }, 0);
}
