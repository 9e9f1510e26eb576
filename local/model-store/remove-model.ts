import { ModelStoreError } from "./model-store-error.ts";
import { refuseInUse } from "./pull.ts";
import { bundledModel, deleteModel, listStore, lockModel } from "./store-folder.ts";

/** What removing a model frees, unfinished pulls of it included. Throws ModelStoreError. */
export function removableBytes(storeDir: string, name: string): number {
  if (name === bundledModel.name) {
    throw new ModelStoreError("in_use", `${name} comes with Axon and is not in the store.`);
  }
  const { models, broken, unfinished } = listStore(storeDir);
  const named = [...models, ...broken, ...unfinished].filter((model) => model.name === name);
  if (named.length > 0) {
    return named.reduce((sum, model) => sum + ("sizeBytes" in model ? model.sizeBytes : 0), 0);
  }
  const names = new Set([...models, ...broken, ...unfinished].map((model) => model.name));
  const known = names.size === 0 ? "It is empty." : `It has: ${[...names].sort().join(", ")}.`;
  throw new ModelStoreError(
    "unknown_model",
    `There is no model "${name}" in ${storeDir}. ${known}`,
  );
}

/**
 * Deletes a model and what an unfinished pull of it has left. Throws ModelStoreError "unknown_model",
 * "in_use" or "busy".
 */
export function removeModel(storeDir: string, name: string): void {
  removableBytes(storeDir, name);
  refuseInUse(storeDir, name, "removed");
  const unlock = lockModel(storeDir, name);
  try {
    deleteModel(storeDir, name);
  } finally {
    unlock();
  }
}
