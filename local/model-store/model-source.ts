import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { ModelStoreError } from "./model-store-error.ts";

/** A model on the hub: all of it, or one GGUF file of it. */
export interface HubSource {
  kind: "hub";
  /** `org/name` */
  id: string;
  /** A branch, a tag or a commit. */
  revision: string;
  /** What names a GGUF file of the repository: its path, or an end of its name such as `Q8_0`. */
  file?: string | undefined;
}

/** A folder in the layout of Hugging Face, or a GGUF file. */
export interface PathSource {
  kind: "path";
  /** Absolute. */
  path: string;
}

export type ModelSource = HubSource | PathSource;

/** The hub's own limits, and nothing that means something in a path or a URL. */
const hubPattern =
  /^(?<id>\w[\w.-]{0,95}\/\w[\w.-]{0,95})(?:@(?<revision>\w[\w./-]{0,200}))?(?::(?<file>\w[\w./+-]{0,200}))?$/;

/**
 * What `axon models pull` was asked for: a path if it looks like one or exists, and else an id of the hub,
 * `org/name[@revision][:file]`. Throws ModelStoreError "invalid_source" or "not_found".
 */
export function parseModelSource(text: string): ModelSource {
  const exists = text !== "" && existsSync(text);
  if (exists) return { kind: "path", path: resolve(text) };
  const { id, revision = "main", file } = hubPattern.exec(text)?.groups ?? {};
  if (/^[./~]/.test(text) || (text.endsWith(".gguf") && file === undefined)) {
    throw new ModelStoreError("not_found", `There is no file or folder ${resolve(text)}.`);
  }
  if (id === undefined || [revision, file].some((part) => part?.split("/").includes(".."))) {
    throw new ModelStoreError(
      "invalid_source",
      `"${text}" names no model. Give an id of the Hugging Face hub (org/name, org/name@revision or ` +
        "org/name:file.gguf), the path of a folder, or that of a .gguf file.",
    );
  }
  return { kind: "hub", id, revision, ...(file !== undefined && { file }) };
}

/** The source as it is written on the command line. */
export function sourceText(source: ModelSource): string {
  if (source.kind === "path") return source.path;
  const revision = source.revision === "main" ? "" : `@${source.revision}`;
  return `${source.id}${revision}${source.file === undefined ? "" : `:${source.file}`}`;
}
