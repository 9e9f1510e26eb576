import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

/** The file in each folder of the store that tells what the folder holds. */
export const manifestName = "axon-model.json";

/** Names of files and of models: no separator, and no dot at the beginning. */
export const namePattern = /^\w[\w.+-]{0,199}$/;

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/);
const sourceSchema = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("hub"),
    endpoint: z.string(),
    id: z.string(),
    revision: z.string(),
    /** Of a GGUF file, its path in the repository. */
    file: z.string().optional(),
    commit: z.string().regex(/^[0-9a-f]{40}$/),
  }),
  z.strictObject({ kind: z.literal("path"), path: z.string() }),
]);

const manifestSchema = z.strictObject({
  version: z.literal(1),
  source: sourceSchema,
  pulledAt: z.iso.datetime(),
  parameters: z.int().min(1),
  contextTokens: z.int().min(1),
  files: z
    .array(
      z.strictObject({
        name: z.string().regex(namePattern),
        sizeBytes: z.int().min(0),
        sha256: sha256Schema,
      }),
    )
    .min(1),
});
export type Manifest = z.infer<typeof manifestSchema>;
export type ManifestFile = Manifest["files"][number];

/** The manifest of a model's folder. Throws when there is none, or when it is none. */
export function readManifest(folder: string): Manifest {
  return manifestSchema.parse(JSON.parse(readFileSync(join(folder, manifestName), "utf8")));
}

/** The text of the manifest's file. */
export function manifestText(manifest: Manifest): string {
  return `${JSON.stringify(manifestSchema.parse(manifest), undefined, 2)}\n`;
}
