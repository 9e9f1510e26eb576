import { readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import { describeModel, type StageModel } from "../model.ts";
import { StageError } from "../part.ts";

/**
 * Revisions that groups of this machine can serve: files `<revision>.json` in a folder. Whoever puts one
 * there can roll it out.
 */
const fileSchema = z.strictObject({
  /** The alias whose traffic it may get. */
  model: z.string().min(1),
  /** A folder or .gguf file with the checkpoint. */
  path: z.string().min(1),
  /** Its name holds a hash of the checkpoint: with other contents it is another one. */
  isHashed: z.boolean().default(false),
  /** Tensor-parallel size; the stage's own unless it is given. */
  ranks: z.int().min(1).max(64).optional(),
  /** Added to the environment of its groups. */
  env: z.record(z.string(), z.string()).default({}),
});
export type RevisionFile = z.input<typeof fileSchema>;

export interface LocalRevision extends StageModel {
  path: string;
  ranks: number | undefined;
  env: Record<string, string>;
}

/** Where they are, in a stage's data. */
export const revisionsFolder = (dataDir: string): string => join(dataDir, "revisions");

/** Its queue's name is made of it, which has fewer letters than a revision's name elsewhere. */
const namePattern = /^[A-Za-z0-9_-]{1,70}$/;

/**
 * Reads a revision of the folder.
 * @throws StageError model_missing where there is none, or it can never be served.
 */
export function readRevision(folder: string, revision: string): LocalRevision {
  if (!namePattern.test(revision)) {
    throw missing(revision, "its name may have 70 letters, digits, dashes and '_' here");
  }
  let file: z.output<typeof fileSchema>;
  try {
    file = fileSchema.parse(JSON.parse(readFileSync(join(folder, `${revision}.json`), "utf8")));
  } catch (cause) {
    throw missing(revision, cause instanceof Error ? cause.message : String(cause), cause);
  }
  const { model, path, ranks, env, isHashed } = file;
  const described = describeModel(resolve(path));
  if (isHashed && described.revision !== revision) {
    throw missing(revision, `what is in ${path} now is ${described.revision}`);
  }
  return { ...described, model, revision, path: resolve(path), ranks, env };
}

function missing(revision: string, why: string, cause?: unknown): StageError {
  return new StageError("model_missing", `There is no revision ${revision} here: ${why}.`, cause);
}

/** The names of those that there are. */
export function revisionNames(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .map((name) => name.slice(0, -".json".length))
    .sort();
}
