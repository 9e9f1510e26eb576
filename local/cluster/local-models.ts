import { statSync } from "node:fs";
import { join } from "node:path";
import { type Model, type ModelCatalog, modelCatalog } from "../../functions/lib/models.ts";
import { queueUrlOf } from "./queue-names.ts";
import { readRevision, revisionNames } from "./revisions.ts";

/**
 * The models of a stage: what it was started with, and the revisions of its folder, also those that were
 * put there since. One that cannot be read is none.
 */
export function localModels(own: Model, folder: string): ModelCatalog {
  const known = new Map<string, { writtenAt: number; model: Model | undefined }>();

  function modelOf(revision: string): Model[] {
    const writtenAt = statSync(join(folder, `${revision}.json`), {
      throwIfNoEntry: false,
    })?.mtimeMs;
    if (writtenAt === undefined) return [];
    let found = known.get(revision);
    if (found?.writtenAt !== writtenAt) {
      found = { writtenAt, model: read(revision) };
      known.set(revision, found);
    }
    return found.model === undefined ? [] : [found.model];
  }

  function read(revision: string): Model | undefined {
    try {
      const { model, contextTokens, sampling } = readRevision(folder, revision);
      const defaults = { minP: 0, repetitionPenalty: 1, stop: [] };
      const queueUrl = queueUrlOf(own.queueUrl, revision);
      return {
        ...{ model, revision, queueUrl, default: false, contextTokens },
        sampling: { ...own.sampling, ...defaults, ...sampling },
      };
    } catch {
      return undefined;
    }
  }

  const now = (): ModelCatalog => {
    const others = revisionNames(folder).filter((revision) => revision !== own.revision);
    return modelCatalog([own, ...others.flatMap(modelOf)]);
  };
  return {
    all: () => now().all(),
    pick: (name) => now().pick(name),
    withRevision: (revision) => now().withRevision(revision),
  };
}
