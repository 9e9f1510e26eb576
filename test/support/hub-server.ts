/**
 * A hub over real HTTP, as far as pulling models needs one: the API, redirects of large files to a
 * content server on another port, ranges, and what can go wrong with them.
 */

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";

/** What goes wrong with requests for a file, the next first; without one all is well. */
type HubFault =
  | { status: number; retryAfter?: string }
  /** The connection is cut when so many bytes of the answer are sent. */
  | { cutAfter: number }
  /** So many bytes are sent, and then nothing until `release` is called. */
  | { holdAfter: number }
  /** Bytes of the same number that are others. */
  | { wrong: true }
  /** All of the file, whatever was asked for. */
  | { noRange: true }
  /** As if there were other bytes on the server: another ETag, and all of them. */
  | { changed: true }
  /** The length of the answer is another than announced. */
  | { extra: number };

interface HubRequest {
  server: "hub" | "content";
  /** Path and query. */
  url: string;
  authorization: string | undefined;
  range: string | undefined;
}

interface HubModel {
  /** By name of a branch; the newest commit. */
  commit: string;
  files: ReadonlyMap<string, Buffer>;
  gated?: boolean;
  /** Sizes in the list of files that are not those of the content. */
  announcedSizes: ReadonlyMap<string, number>;
}

export interface HubServer {
  url: string;
  requests: HubRequest[];
  /** Adds a model, or its next commit. */
  publish(id: string, files: Readonly<Record<string, Buffer>>, options?: PublishOptions): string;
  /** Of a file's path, or of "api". */
  fail(path: string, ...faults: HubFault[]): void;
  /** Lets answers go on that are held. */
  release(): void;
  close(): Promise<void>;
}

interface PublishOptions {
  gated?: boolean;
  announcedSizes?: Readonly<Record<string, number>>;
}

/** Larger files lie on the content server, as Git LFS has it. */
const largeBytes = 100_000;
/** So that a list of a few files has several pages. */
const pageEntries = 4;
export const hubToken = "hf_token-of-the-test";

export async function startHub(): Promise<HubServer> {
  const hub = new FakeHub();
  await hub.start();
  return hub;
}

class FakeHub implements HubServer {
  url = "";
  readonly requests: HubRequest[] = [];
  readonly #models = new Map<string, HubModel>();
  readonly #faults = new Map<string, HubFault[]>();
  readonly #hub = createServer((request, response) => this.#answer(request, response));
  readonly #content = createServer((request, response) => this.#answerContent(request, response));
  #held: (() => void)[] = [];
  #contentUrl = "";

  async start(): Promise<void> {
    this.url = await listen(this.#hub);
    this.#contentUrl = await listen(this.#content);
  }

  publish(id: string, files: Readonly<Record<string, Buffer>>, options: PublishOptions = {}) {
    const { gated = false, announcedSizes = {} } = options;
    const entries = new Map(Object.entries(files));
    const contents = [...entries].map(([path, content]) => path + blobId(content));
    const commit = createHash("sha1").update(contents.join()).digest("hex");
    this.#models.set(id, {
      ...{ commit, files: entries, gated },
      announcedSizes: new Map(Object.entries(announcedSizes)),
    });
    return commit;
  }

  fail(path: string, ...faults: HubFault[]): void {
    this.#faults.set(path, [...(this.#faults.get(path) ?? []), ...faults]);
  }

  release(): void {
    for (const go of this.#held.splice(0)) go();
  }

  async close(): Promise<void> {
    this.release();
    for (const server of [this.#hub, this.#content]) {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    }
  }

  #note(server: HubRequest["server"], request: IncomingMessage): string {
    const { authorization, range } = request.headers;
    this.requests.push({ server, url: request.url ?? "", authorization, range });
    return decodeURIComponent((request.url ?? "").replace(/\?.*/, ""));
  }

  #answer(request: IncomingMessage, response: ServerResponse) {
    const path = this.#note("hub", request);
    const [, api, resolved] =
      /^\/(?:api\/models\/([\w.-]+\/[\w.-]+)|([\w.-]+\/[\w.-]+)\/resolve)\//.exec(path) ?? [];
    const id = api ?? resolved ?? "";
    const model = this.#models.get(id);
    if (model === undefined) return refuse(response, 401, "RepoNotFound");
    if (model.gated && request.headers.authorization !== `Bearer ${hubToken}`) {
      return refuse(response, request.headers.authorization ? 403 : 401, "GatedRepo");
    }
    if (api === undefined) return this.#resolve(path, model, request, response);
    const fault = this.#faults.get("api")?.shift();
    if (fault !== undefined && "status" in fault) return refuse(response, fault.status, "", fault);
    const [, what, revision = ""] = /\/(revision|tree)\/(.+)$/.exec(path) ?? [];
    if (revision !== "main" && revision !== model.commit) {
      return refuse(response, 404, "RevisionNotFound");
    }
    if (what === "revision") return json(response, { id, sha: model.commit });
    this.#tree(model, request, response);
  }

  #tree(model: HubModel, request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? "", this.url);
    const start = Number(url.searchParams.get("cursor") ?? 0);
    const entries = [...model.files].map(([path, content]) => {
      const size = model.announcedSizes.get(path) ?? content.length;
      if (content.length < largeBytes) return { type: "file", path, size, oid: blobId(content) };
      const oid = createHash("sha256").update(content).digest("hex");
      return {
        type: "file",
        path,
        size,
        oid: "0".repeat(40),
        lfs: { oid, size, pointerSize: 134 },
      };
    });
    if (start + pageEntries < entries.length) {
      url.searchParams.set("cursor", String(start + pageEntries));
      response.setHeader("link", `<${url.href}>; rel="next"`);
    }
    json(response, [
      { type: "directory", path: "onnx", size: 0, oid: "0".repeat(40) },
      ...entries.slice(start, start + pageEntries),
    ]);
  }

  #resolve(path: string, model: HubModel, request: IncomingMessage, response: ServerResponse) {
    const [, commit, file = ""] = /\/resolve\/([^/]+)\/(.+)$/.exec(path) ?? [];
    const content = model.files.get(file);
    if (content === undefined || commit !== model.commit) {
      return refuse(response, 404, "EntryNotFound");
    }
    if (content.length < largeBytes) return this.#send(file, content, request, response);
    const location = `${this.#contentUrl}/${commit}/${encodeURIComponent(file)}?signature=secret`;
    response.writeHead(302, { location, "x-repo-commit": commit }).end();
  }

  #answerContent(request: IncomingMessage, response: ServerResponse) {
    const path = this.#note("content", request);
    const [, commit, file = ""] = /^\/([^/]+)\/(.+)$/.exec(path) ?? [];
    const model = [...this.#models.values()].find((known) => known.commit === commit);
    const content = model?.files.get(file);
    if (content === undefined) return refuse(response, 403, "");
    this.#send(file, content, request, response);
  }

  #send(file: string, content: Buffer, request: IncomingMessage, response: ServerResponse) {
    const fault = this.#faults.get(file)?.shift();
    const has = (name: string) => fault !== undefined && name in fault;
    if (fault !== undefined && "status" in fault) return refuse(response, fault.status, "", fault);
    const etag = has("changed") ? '"other"' : `"${blobId(content)}"`;
    const condition = request.headers["if-range"];
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const isPart = start > 0 && !has("noRange") && (condition === undefined || condition === etag);
    const bytes = has("wrong") ? content.map((byte) => byte ^ 1) : content;
    const extra = fault !== undefined && "extra" in fault ? fault.extra : 0;
    const body = Buffer.concat([isPart ? bytes.subarray(start) : bytes, Buffer.alloc(extra)]);
    response.writeHead(isPart ? 206 : 200, {
      etag,
      ...(extra === 0 && { "content-length": body.length }),
      ...(isPart && {
        "content-range": `bytes ${start}-${content.length - 1}/${content.length}`,
      }),
    });
    if (fault !== undefined && "cutAfter" in fault) {
      response.write(body.subarray(0, fault.cutAfter), () => response.destroy());
    } else if (fault !== undefined && "holdAfter" in fault) {
      response.write(body.subarray(0, fault.holdAfter));
      this.#held.push(() => response.end(body.subarray(fault.holdAfter)));
    } else {
      response.end(body);
    }
  }
}

function blobId(content: Buffer): string {
  return createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");
}

function json(response: ServerResponse, value: unknown): void {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(value));
}

function refuse(
  response: ServerResponse,
  status: number,
  reason: string,
  { retryAfter }: { retryAfter?: string } = {},
): void {
  response.writeHead(status, {
    ...(reason !== "" && { "x-error-code": reason }),
    ...(retryAfter !== undefined && { "retry-after": retryAfter }),
  });
  response.end("{}");
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("No port was given.");
  return `http://127.0.0.1:${address.port}`;
}
