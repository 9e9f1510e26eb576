import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Checkpoint } from "../dataplane/engine/checkpoint/checkpoint.ts";
import type { Manifest } from "../local/model-store/manifest.ts";
import { bytesText, countText } from "../local/model-store/quantities.ts";
import { bundledModel, listStore } from "../local/model-store/store-folder.ts";
import { textTable } from "./text-table.ts";

/** A line of `axon models list`, and with --json an object. */
interface ListedModel {
  name: string;
  /** Only what is ready can be used. */
  state: "ready" | "broken" | "unfinished";
  path?: string;
  sizeBytes?: number;
  parameters?: number;
  contextTokens?: number;
  source?: string;
  pulledAt?: string;
  why?: string;
}

/** All models, the one that comes with Axon first. */
export async function listModels(storeDir: string): Promise<ListedModel[]> {
  const { models, broken, unfinished } = listStore(storeDir);
  return [
    await bundled(),
    ...models.map(({ name, path, sizeBytes, manifest }): ListedModel => {
      const { parameters, contextTokens, source, pulledAt } = manifest;
      const facts = { sizeBytes, parameters, contextTokens, pulledAt };
      return { name, state: "ready", path, ...facts, source: originText(source) };
    }),
    ...broken.map(({ name, why }): ListedModel => ({ name, state: "broken", why })),
    ...unfinished.map(({ name, source, sizeBytes }): ListedModel => {
      return { name, state: "unfinished", sizeBytes, ...(source !== undefined && { source }) };
    }),
  ];
}

/** The usable ones as a table, and a sentence for each other. */
export function modelTable(models: readonly ListedModel[]): string {
  const rows = models
    .filter(({ state }) => state === "ready")
    .map((model) => [
      model.name,
      bytesText(model.sizeBytes ?? 0),
      countText(model.parameters ?? 0),
      String(model.contextTokens ?? ""),
      model.source ?? "",
      model.pulledAt?.slice(0, 16).replace("T", " ") ?? "-",
    ]);
  const header = ["name", "size", "parameters", "context", "source", "pulled (UTC)"];
  const isNumber = [false, true, true, true, false, false];
  const lines = textTable(header, rows, isNumber);
  return `${[...lines, ...models.flatMap(remark)].join("\n")}\n`;
}

function remark({ name, state, why, source, sizeBytes = 0 }: ListedModel): string[] {
  if (state === "ready") return [];
  if (state === "broken") return [`${name} cannot be used: ${why}. Pull it again, or remove it.`];
  const again = source === undefined ? "" : `; to go on: axon models pull ${source}`;
  return [`${name} is not complete (${bytesText(sizeBytes)} so far)${again}`];
}

async function bundled(): Promise<ListedModel> {
  const { name, path } = bundledModel;
  const checkpoint = await Checkpoint.open(path);
  await checkpoint.close();
  const sizes = readdirSync(path).map((file) => statSync(join(path, file)).size);
  return {
    ...{ name, state: "ready", path, source: "comes with Axon" },
    sizeBytes: sizes.reduce((sum, size) => sum + size, 0),
    parameters: checkpoint.parameters,
    contextTokens: checkpoint.config.contextLength,
  };
}

function originText(source: Manifest["source"]): string {
  if (source.kind === "path") return source.path;
  const file = source.file === undefined ? "" : `:${source.file}`;
  return `${source.id}@${source.commit.slice(0, 7)}${file}`;
}
