/** Which files of a repository a model needs. */

import { basename } from "node:path";
import { z } from "zod";
import { namePattern } from "./manifest.ts";
import { ModelStoreError } from "./model-store-error.ts";
import { bytesText } from "./quantities.ts";

interface NamedFile {
  path: string;
  sizeBytes: number;
}

const indexName = "model.safetensors.index.json";
const singleName = "model.safetensors";
const neededTexts = ["config.json", "tokenizer.json", "tokenizer_config.json"];
const texts = [...neededTexts, "generation_config.json", "chat_template.jinja", indexName];
/** No text of any known model is larger; an index has 100 bytes a tensor. */
const maxTextBytes = 64 << 20;

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/** A GGUF file, or what describes a model in Hugging Face's layout: its weights are chosen after. */
export type Selection<File> = { layout: "gguf"; file: File } | { layout: "folder"; texts: File[] };

/**
 * Chooses among the files of a repository: the GGUF file that `wanted` names, or the layout of Hugging
 * Face if it is there, or the only GGUF file. Throws ModelStoreError "not_found" or "unsupported_model".
 */
export function selectFiles<File extends NamedFile>(
  repository: string,
  files: readonly File[],
  wanted?: string,
): Selection<File> {
  const ggufs = files.filter(({ path }) => /\.gguf$/.test(path) && !isProjector(path));
  if (wanted !== undefined) return selectGguf(repository, ggufs, wanted);
  const atTop = new Map(files.map((file) => [file.path, file]));
  if (atTop.has(singleName) || atTop.has(indexName)) return selectFolder(repository, atTop);
  const [only, ...others] = ggufs;
  if (only !== undefined && others.length === 0) return { layout: "gguf", file: checkedGguf(only) };
  if (only !== undefined) {
    throw new ModelStoreError(
      "not_found",
      `${repository} has several GGUF files. Name one of them, as in ${repository}:${printable(only.path)}\n` +
        listed(ggufs),
    );
  }
  throw new ModelStoreError(
    "unsupported_model",
    `${repository} has neither ${singleName} (or its index) nor a .gguf file, which are the formats ` +
      "that run here.",
  );
}

/**
 * The files with weights: those that the index names, or else model.safetensors. `index` is the parsed
 * index, if there is one. Throws ModelStoreError "unsupported_model".
 */
export function selectWeights<File extends NamedFile>(
  repository: string,
  files: readonly File[],
  index: unknown,
): File[] {
  const parsed = index === undefined ? undefined : indexSchema.safeParse(index);
  if (parsed?.success === false) throw broken(repository, `${indexName} is no index`, parsed.error);
  const names = new Set(parsed ? Object.values(parsed.data.weight_map) : [singleName]);
  return [...names].sort().map((name) => {
    const file = files.find(({ path }) => path === name);
    const isWeights = namePattern.test(name) && name.endsWith(".safetensors");
    if (file !== undefined && isWeights) return file;
    throw broken(
      repository,
      `its index names "${printable(name).slice(0, 80)}", which is no file beside it`,
    );
  });
}

function selectFolder<File extends NamedFile>(
  repository: string,
  atTop: ReadonlyMap<string, File>,
): Selection<File> {
  const missing = neededTexts.filter((name) => !atTop.has(name));
  if (missing.length > 0) throw broken(repository, `it lacks ${missing.join(" and ")}`);
  const found = texts.flatMap((name) => atTop.get(name) ?? []);
  const large = found.find(({ sizeBytes }) => sizeBytes > maxTextBytes);
  if (large !== undefined) {
    throw broken(repository, `its ${large.path} has ${bytesText(large.sizeBytes)}`);
  }
  return { layout: "folder", texts: found };
}

function selectGguf<File extends NamedFile>(
  repository: string,
  ggufs: readonly File[],
  wanted: string,
): Selection<File> {
  const stem = (path: string) => basename(path).replace(/\.gguf$/, "");
  const bare = stem(wanted).toLowerCase();
  const ways = [
    ({ path }: File) => path === wanted,
    ({ path }: File) => stem(path).toLowerCase() === bare,
    // The kind of quantization alone, as in org/name:Q4_K_M.
    ({ path }: File) =>
      ["-", ".", "_"].some((mark) =>
        stem(path)
          .toLowerCase()
          .endsWith(mark + bare),
      ),
  ];
  for (const way of ways) {
    const [only, ...others] = ggufs.filter(way);
    if (only !== undefined && others.length === 0) {
      return { layout: "gguf", file: checkedGguf(only) };
    }
  }
  const known = ggufs.length === 0 ? " It has no .gguf file." : ` It has\n${listed(ggufs)}`;
  throw new ModelStoreError(
    "not_found",
    `${repository} has no file "${printable(wanted)}".${known}`,
  );
}

function checkedGguf<File extends NamedFile>(file: File): File {
  if (/-\d{5}-of-\d{5}\.gguf$/.test(file.path)) {
    throw new ModelStoreError(
      "unsupported_model",
      `${printable(file.path)} is a part of a model in several GGUF files, which does not run here. Merge them ` +
        "with llama-gguf-split --merge, and pull the path of the result.",
    );
  }
  if (namePattern.test(basename(file.path))) return file;
  throw new ModelStoreError(
    "invalid_source",
    `"${printable(file.path)}" is no name for a file here.`,
  );
}

/** A part of a model that sees, beside the one that speaks. */
function isProjector(path: string): boolean {
  return basename(path).startsWith("mmproj");
}

function listed(files: readonly NamedFile[]): string {
  return files
    .map(({ path, sizeBytes }) => `  ${printable(path)} (${bytesText(sizeBytes)})`)
    .join("\n");
}

/** A name from the hub is no command to the terminal. */
function printable(name: string): string {
  return name.replace(/[^\x20-\x7e]/g, "?");
}

function broken(repository: string, why: string, cause?: unknown): ModelStoreError {
  const message = `${repository} is no model that runs here: ${why}.`;
  return new ModelStoreError("unsupported_model", message, { cause });
}
