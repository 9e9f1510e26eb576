import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { parseModelSource } from "./model-source.ts";
import { ModelStoreError } from "./model-store-error.ts";
import { bundledModel, listStore, modelsDir, type StoredModel } from "./store-folder.ts";

/**
 * The path of the model that `--model` means: a folder or a .gguf file, the name of a model in the
 * store, or the hub id that it was pulled by. Throws ModelStoreError "unknown_model".
 */
export function findModel(text: string, storeDir = modelsDir()): string {
  if (existsSync(text)) return resolve(text);
  if (text === bundledModel.name) return bundledModel.path;
  const { models } = listStore(storeDir);
  const found = models.find(({ name }) => name === text) ?? pulledAs(models, text);
  if (found !== undefined) return found.path;
  const names = [bundledModel.name, ...models.map(({ name }) => name)].join(", ");
  throw new ModelStoreError(
    "unknown_model",
    `"${text}" is no folder, no .gguf file, and no model in the store, which has ${names}. To get one ` +
      "from the Hugging Face hub: npx axon models pull org/name",
  );
}

/** The only model of that id, or the one of that file of it. */
function pulledAs(models: readonly StoredModel[], text: string): StoredModel | undefined {
  const wanted = hubId(text);
  if (wanted === undefined) return undefined;
  const found = models.filter(({ manifest: { source } }) => {
    if (source.kind !== "hub" || source.id !== wanted.id) return false;
    if (wanted.revision !== "main" && ![source.revision, source.commit].includes(wanted.revision)) {
      return false;
    }
    return wanted.file === undefined || (source.file ?? "").includes(wanted.file);
  });
  return found.length === 1 ? found[0] : undefined;
}

function hubId(text: string) {
  try {
    const source = parseModelSource(text);
    return source.kind === "hub" ? source : undefined;
  } catch {
    return undefined;
  }
}
