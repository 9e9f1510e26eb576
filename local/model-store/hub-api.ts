/** What the hub knows about a model: its commit, and the files of that commit. */

import { z } from "zod";
import type { Digest } from "./digest.ts";
import { contentOf, get, type Hub, watched, withRetries } from "./hub-http.ts";
import type { HubSource } from "./model-source.ts";
import { ModelStoreError } from "./model-store-error.ts";

export interface RemoteFile {
  /** In the repository. */
  path: string;
  sizeBytes: number;
  digest: Digest;
}

const apiTries = 4;
/** A page of the file list has some hundred KB. */
const maxAnswerBytes = 32 << 20;
const maxPages = 50;

const infoSchema = z.looseObject({ sha: z.string().regex(/^[0-9a-f]{40}$/) });
const hex = z.string().regex(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/);
const entrySchema = z.looseObject({ type: z.string(), path: z.string() });
const fileSchema = z.looseObject({
  path: z.string(),
  size: z.int().min(0),
  oid: hex,
  /** Large files lie elsewhere: `oid` is then that of a pointer to them. */
  lfs: z.looseObject({ oid: hex.length(64), size: z.int().min(0) }).nullish(),
});

/** The commit that a revision stands for now. Throws ModelStoreError. */
export async function commitOf(hub: Hub, source: HubSource): Promise<string> {
  const path = `/api/models/${source.id}/revision/${encodeURIComponent(source.revision)}`;
  const { json } = await getJson(hub, source, hub.endpoint + path);
  return parsed(hub, infoSchema, json).sha;
}

/** All files of a commit. Throws ModelStoreError. */
export async function filesOf(hub: Hub, source: HubSource, commit: string): Promise<RemoteFile[]> {
  const files: RemoteFile[] = [];
  let next: string | undefined =
    `${hub.endpoint}/api/models/${source.id}/tree/${commit}?recursive=true`;
  for (let page = 0; next !== undefined; page++) {
    if (page === maxPages) throw badAnswer(hub, `it lists more than ${maxPages} pages of files`);
    const { json, nextPage } = await getJson(hub, source, next);
    for (const entry of parsed(hub, z.array(entrySchema), json)) {
      if (entry.type !== "file") continue;
      const { path, size, oid, lfs } = parsed(hub, fileSchema, entry);
      files.push({
        path,
        sizeBytes: lfs?.size ?? size,
        digest: lfs ? { algorithm: "sha256", hex: lfs.oid } : { algorithm: "git-blob", hex: oid },
      });
    }
    next = nextPage;
  }
  return files;
}

/** Where the content of a file is. */
export function contentAddress(hub: Hub, id: string, commit: string, path: string): string {
  const escaped = path.split("/").map(encodeURIComponent).join("/");
  return `${hub.endpoint}/${id}/resolve/${commit}/${escaped}`;
}

/** Throws what an answer other than success means. */
export function refuseFailure(hub: Hub, source: HubSource, response: Response): void {
  if (response.ok) return;
  const { status } = response;
  const reason = response.headers.get("x-error-code") ?? "";
  const { host } = new URL(hub.endpoint);
  if (status === 401 || status === 403) throw refusedAccess(hub, source, status, reason);
  if (status !== 404) throw badAnswer(hub, `it answered ${status} for ${source.id}`);
  const what =
    reason === "RevisionNotFound"
      ? `${source.id} has no revision ${source.revision}`
      : reason === "EntryNotFound"
        ? `${source.id} lacks a file that it lists`
        : `There is no model ${source.id}`;
  throw new ModelStoreError("not_found", `${what} on ${host}. Look at ${hub.endpoint}/models.`);
}

function refusedAccess(
  hub: Hub,
  { id }: HubSource,
  status: number,
  reason: string,
): ModelStoreError {
  const page = `${hub.endpoint}/${id}`;
  const tokens = `${hub.endpoint}/settings/tokens`;
  const isGated = reason === "GatedRepo" || status === 403;
  if (hub.token === undefined) {
    const what = isGated
      ? `${id} is gated: accept its licence at ${page}, then`
      : `There is no model ${id}, or it is private or gated. If ${page} shows it to you, accept its ` +
        "licence there, then";
    return new ModelStoreError("gated", `${what} set HF_TOKEN to a token from ${tokens}.`);
  }
  const what = isGated
    ? `${id} is gated, and the account of HF_TOKEN may not have it: accept its licence at ${page} with ` +
      "that account, and give the token the right to read gated models"
    : `There is no model ${id} for the account of HF_TOKEN, or the token is not valid any more: see ` +
      `${page} and ${tokens}`;
  return new ModelStoreError("gated", `${what}.`);
}

async function getJson(
  hub: Hub,
  source: HubSource,
  address: string,
): Promise<{ json: unknown; nextPage: string | undefined }> {
  return withRetries(hub, { tries: apiTries }, () =>
    watched(hub, async (signal, alive) => {
      const response = await get(hub, address, { signal });
      const { host } = new URL(response.url || address);
      refuseFailure(hub, source, response);
      const chunks: Uint8Array[] = [];
      let sizeBytes = 0;
      for await (const chunk of contentOf(hub, host, response)) {
        alive();
        sizeBytes += chunk.length;
        if (sizeBytes > maxAnswerBytes) throw badAnswer(hub, "its answer does not end");
        chunks.push(chunk);
      }
      const text = Buffer.concat(chunks).toString("utf8");
      return { json: parsedJson(hub, text), nextPage: nextPageOf(hub, address, response) };
    }),
  );
}

/** From a Link header, such as `<https://…?cursor=…>; rel="next"`. */
function nextPageOf(hub: Hub, address: string, response: Response): string | undefined {
  const link = response.headers.get("link") ?? "";
  const [, next] = /<([^>]+)>\s*;\s*rel="?next"?/.exec(link) ?? [];
  if (next === undefined) return undefined;
  const url = URL.canParse(next, address) ? new URL(next, address) : undefined;
  if (url?.origin === new URL(hub.endpoint).origin) return url.href;
  throw badAnswer(hub, "its list of files goes on at another host");
}

function parsedJson(hub: Hub, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw badAnswer(hub, "its answer is no JSON", cause);
  }
}

function parsed<T>(hub: Hub, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw badAnswer(hub, `${issue?.path.join(".")}: ${issue?.message}`, result.error);
}

function badAnswer(hub: Hub, why: string, cause?: unknown): ModelStoreError {
  return new ModelStoreError(
    "bad_answer",
    `${hub.endpoint} does not answer like the Hugging Face hub (${why}). Is HF_ENDPOINT right?`,
    { cause },
  );
}
