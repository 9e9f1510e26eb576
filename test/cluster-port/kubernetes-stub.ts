import { randomUUID } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { complaints } from "../cluster/schemas.ts";

/**
 * The part of Kubernetes' API server that a rollout needs, in memory: it takes only objects that pass the
 * schemas of their kinds, gives resource versions, refuses what was changed meanwhile, and pages its lists.
 * Instead of the controllers the test says what becomes of the objects.
 */

export interface StoredObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    resourceVersion: string;
    uid: string;
    deletionTimestamp?: string;
  };
  [rest: string]: unknown;
}

/** How a call ends instead of being answered. */
export type Fault = { status: number; reason: string; message: string } | "hangs" | "breaks";

export interface Exchange {
  method: string;
  path: string;
  contentType: string | undefined;
  body: unknown;
  status: number;
}

const kinds: Record<string, string> = {
  "/apis/leaderworkerset.x-k8s.io/v1/namespaces/axon/leaderworkersets": "LeaderWorkerSet",
  "/api/v1/namespaces/axon/configmaps": "ConfigMap",
  "/apis/policy/v1/namespaces/axon/poddisruptionbudgets": "PodDisruptionBudget",
  "/apis/networking.k8s.io/v1/namespaces/axon/networkpolicies": "NetworkPolicy",
  "/api/v1/namespaces/axon/pods": "Pod",
  "/api/v1/nodes": "Node",
};

class Refusal extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(status: number, reason: string, message: string) {
    super(message);
    this.status = status;
    this.reason = reason;
  }
}

export class KubernetesStub {
  /** The user of each token that is let in; throws for one that is not. */
  readonly #authenticate: (token: string) => void;
  readonly #objects = new Map<string, StoredObject>();
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  #version = 0;
  readonly exchanges: Exchange[] = [];
  /** Asked for each call; undefined lets it through. */
  fault: (method: string, path: string) => Fault | undefined = () => undefined;

  constructor(authenticate: (token: string) => void) {
    this.#authenticate = authenticate;
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  /** Puts an object there as a controller does, or takes it away. */
  put(path: string, name: string, object: object): void {
    this.#store(`${path}/${name}`, object as StoredObject);
  }
  take(path: string, name: string): void {
    this.#objects.delete(`${path}/${name}`);
  }
  find(path: string): StoredObject[] {
    const own = [...this.#objects].filter(([key]) => key.replace(/\/[^/]*$/, "") === path);
    return own.map(([, object]) => object);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://stub");
    const method = request.method ?? "GET";
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const body: unknown = text === "" ? undefined : JSON.parse(text);
    const fault = this.fault(method, url.pathname);
    if (fault === "hangs") return;
    if (fault === "breaks") {
      request.socket.destroy();
      return;
    }
    const contentType = request.headers["content-type"];
    let status = 200;
    let answer: unknown;
    try {
      if (fault !== undefined) throw new Refusal(fault.status, fault.reason, fault.message);
      this.#admit(request);
      [status, answer] = this.#handle(method, url, contentType, body);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      status = error.status;
      const { reason, message } = error;
      answer = {
        kind: "Status",
        apiVersion: "v1",
        status: "Failure",
        message,
        reason,
        code: status,
      };
    }
    this.exchanges.push({ method, path: request.url ?? "", contentType, body, status });
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(answer));
  }

  #admit({ headers }: IncomingMessage): void {
    try {
      this.#authenticate((headers.authorization ?? "").replace(/^Bearer /, ""));
    } catch (error) {
      throw new Refusal(401, "Unauthorized", String(error));
    }
  }

  #handle(
    method: string,
    { pathname, searchParams }: URL,
    contentType: string | undefined,
    body: unknown,
  ): [number, unknown] {
    if (kinds[pathname] !== undefined) {
      if (method === "GET") return [200, this.#list(pathname, searchParams)];
      if (method === "POST") return [201, this.#create(pathname, body as StoredObject)];
    }
    const parent = pathname.replace(/\/[^/]*$/, "");
    const found = this.#objects.get(pathname);
    if (kinds[parent] === undefined)
      throw new Refusal(404, "NotFound", `${pathname} is no resource`);
    if (method === "PATCH" && contentType === "application/apply-patch+yaml") {
      return [found === undefined ? 201 : 200, this.#apply(parent, pathname, body as StoredObject)];
    }
    if (found === undefined) throw new Refusal(404, "NotFound", `${pathname} not found`);
    if (method === "GET") return [200, found];
    if (method === "DELETE") {
      found.metadata.deletionTimestamp ??= new Date().toISOString();
      this.deleted(parent, found);
      return [200, found];
    }
    if (method === "PATCH" && contentType === "application/merge-patch+json") {
      return [200, this.#merge(pathname, found, body as Record<string, unknown>)];
    }
    throw new Refusal(405, "MethodNotAllowed", `${method} ${contentType}`);
  }

  /** What is deleted goes at once, unless a test says that something of it has to end first. */
  deleted = (path: string, object: StoredObject): void => this.take(path, object.metadata.name);

  #list(path: string, query: URLSearchParams) {
    const selected = this.find(path).filter(({ metadata: { labels = {} } }) =>
      (query.get("labelSelector") ?? "").split(",").every((requirement) => {
        const [name = "", value] = requirement.split("=");
        return name === "" || (value === undefined ? name in labels : labels[name] === value);
      }),
    );
    // Smaller pages than are asked for: that is allowed, and so tried.
    const from = Number(query.get("continue") ?? 0);
    const to = from + 2;
    const more = to < selected.length ? { continue: String(to) } : {};
    return { kind: "List", apiVersion: "v1", metadata: more, items: selected.slice(from, to) };
  }

  #create(path: string, object: StoredObject): StoredObject {
    const key = `${path}/${object.metadata.name}`;
    if (this.#objects.has(key)) throw new Refusal(409, "AlreadyExists", `${key} already exists`);
    this.#check(path, object);
    const stored = this.#store(key, object);
    this.created(path, stored);
    return stored;
  }

  created = (_path: string, _object: StoredObject): void => {};

  #apply(parent: string, key: string, object: StoredObject): StoredObject {
    this.#check(parent, object);
    const before = this.#objects.get(key);
    if (before === undefined) return this.#store(key, object);
    const annotations = { ...before.metadata.annotations, ...object.metadata.annotations };
    const { resourceVersion, uid } = before.metadata;
    const metadata = { ...object.metadata, annotations, resourceVersion, uid };
    const next = { ...object, metadata };
    const withAny = { ...before, metadata: { ...before.metadata, annotations } };
    if (JSON.stringify(sorted(next)) === JSON.stringify(sorted(withAny))) return before;
    return this.#store(key, next);
  }

  #merge(key: string, found: StoredObject, patch: Record<string, unknown>): StoredObject {
    const { metadata = {} } = patch as { metadata?: Partial<StoredObject["metadata"]> };
    const { resourceVersion, annotations } = metadata;
    if (resourceVersion !== undefined && resourceVersion !== found.metadata.resourceVersion) {
      throw new Refusal(409, "Conflict", "the object has been modified; please apply your changes");
    }
    const merged = { ...found.metadata.annotations, ...annotations };
    return this.#store(key, { ...found, metadata: { ...found.metadata, annotations: merged } });
  }

  #check(path: string, object: StoredObject): void {
    const problems = complaints(object);
    if (object.kind !== kinds[path]) problems.push(`${object.kind} is no ${kinds[path]}`);
    if (problems.length > 0) throw new Refusal(422, "Invalid", problems.join("; "));
  }

  #store(key: string, object: StoredObject): StoredObject {
    const uid = object.metadata.uid ?? randomUUID();
    const metadata = { ...object.metadata, uid, resourceVersion: String(++this.#version) };
    const stored = { ...object, metadata };
    this.#objects.set(key, stored);
    return stored;
  }
}

/** With the keys in one order, so that two of the same content are the same text. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(entries.map(([name, one]) => [name, sorted(one)]));
}
