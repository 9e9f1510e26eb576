import { join } from "node:path";

/** The folder of the project. */
export const root = join(import.meta.dirname, "..");

/** Code that Node has compiled, for the next start. It may be deleted at any time. */
export const compileCacheDir = join(root, ".axon", "compile-cache");
