import { Agent as HttpAgent, request as requestHttp } from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import * as z from "zod";
import { KubernetesError, KubernetesTimeout } from "./errors.ts";

/** Where a kind's objects are in the API. */
export interface Kind {
  apiVersion: string;
  /** In the plural, lower case. */
  resource: string;
  /** Undefined for what belongs to none, such as nodes. */
  namespace: string | undefined;
}

export interface KubernetesApi {
  /** @throws KubernetesError, KubernetesTimeout, as all others do, or the error of the connection. */
  list(kind: Kind, labelSelector: string): Promise<unknown[]>;
  create(kind: Kind, object: object): Promise<void>;
  /** Server-side apply: the fields that are given become so, whoever had them. */
  apply(kind: Kind, object: { metadata?: { name?: string } }): Promise<void>;
  /** A JSON merge patch. */
  merge(kind: Kind, name: string, patch: object): Promise<void>;
  get(kind: Kind, name: string): Promise<unknown>;
  /** Stays to be seen until all that belongs to it is gone. One that is not there is gone. */
  remove(kind: Kind, name: string): Promise<void>;
  close(): void;
}

const statusSchema = z.object({ reason: z.string().default(""), message: z.string().default("") });
const listSchema = z.object({
  items: z.array(z.unknown()),
  metadata: z.object({ continue: z.string().optional() }).default({}),
});

const timeoutMs = 5_000;
const fieldManager = "axon-rollout";
const pageSize = 500;

export interface ApiServer {
  endpoint: string;
  /** PEM; undefined where Node's own authorities do. */
  authority: string | undefined;
}
type Dialed = ReturnType<typeof dialing>;

function dialing({ endpoint, authority }: ApiServer) {
  if (endpoint.startsWith("http:")) {
    return { endpoint, agent: new HttpAgent({ keepAlive: true }), request: requestHttp };
  }
  const ca = authority !== undefined && { ca: authority };
  return { endpoint, agent: new HttpsAgent({ keepAlive: true, ...ca }), request: requestHttps };
}

/**
 * Kubernetes' API, as far as a rollout needs it, by Node's own client: `fetch` takes no authority of its
 * own for certificates, and each cluster of EKS has one.
 */
export function kubernetesApi(
  server: () => Promise<ApiServer>,
  token: () => Promise<string>,
): KubernetesApi {
  const { call, close } = caller(server, token);
  const patch = (path: string, type: string, object: object, query: Record<string, string>) =>
    // JSON is YAML.
    call("PATCH", `${path}?${new URLSearchParams(query)}`, { type: `application/${type}`, object });
  return {
    close,
    async list(kind, labelSelector) {
      const items: unknown[] = [];
      let next: string | undefined;
      do {
        const query = new URLSearchParams({
          ...{ labelSelector, limit: String(pageSize) },
          ...(next !== undefined && { continue: next }),
        });
        const page = listSchema.parse(await call("GET", `${pathOf(kind)}?${query}`));
        items.push(...page.items);
        next = page.metadata.continue || undefined;
      } while (next !== undefined);
      return items;
    },
    get: (kind, name) => call("GET", pathOf(kind, name)),
    async create(kind, object) {
      const query = new URLSearchParams({ fieldManager });
      await call("POST", `${pathOf(kind)}?${query}`, { type: "application/json", object });
    },
    async apply(kind, object) {
      const query = { fieldManager, force: "true" };
      await patch(pathOf(kind, object.metadata?.name ?? ""), "apply-patch+yaml", object, query);
    },
    async merge(kind, name, object) {
      // Another manager than apply's, which would take away what it does not name.
      const query = { fieldManager: `${fieldManager}-notes` };
      await patch(pathOf(kind, name), "merge-patch+json", object, query);
    },
    async remove(kind, name) {
      const object = { kind: "DeleteOptions", apiVersion: "v1", propagationPolicy: "Foreground" };
      try {
        await call("DELETE", pathOf(kind, name), { type: "application/json", object });
      } catch (error) {
        if (!(error instanceof KubernetesError && error.status === 404)) throw error;
      }
    },
  };
}

/** Makes single calls. The server is asked for once, by the first that comes about. */
function caller(server: () => Promise<ApiServer>, token: () => Promise<string>) {
  let dialed: Promise<Dialed> | undefined;
  const dial = (): Promise<Dialed> => {
    dialed ??= server().then(dialing);
    dialed.catch(() => {
      dialed = undefined;
    });
    return dialed;
  };

  /** @throws KubernetesError, KubernetesTimeout, or the error of the connection. */
  async function call(
    method: string,
    path: string,
    body?: { type: string; object: object },
  ): Promise<unknown> {
    const { endpoint, agent, request } = await dial();
    const text = body === undefined ? undefined : JSON.stringify(body.object);
    const headers = {
      accept: "application/json",
      authorization: `Bearer ${await token()}`,
      ...(body !== undefined && { "content-type": body.type }),
      ...(text !== undefined && { "content-length": Buffer.byteLength(text) }),
    };
    const signal = AbortSignal.timeout(timeoutMs);
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const options = { agent, method, headers, signal };
    const sending = request(new URL(path, endpoint), options, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("error", reject);
      answer.on("end", () => {
        try {
          resolve(parsed(answer.statusCode ?? 0, Buffer.concat(chunks).toString("utf8")));
        } catch (error) {
          reject(error);
        }
      });
    });
    sending.on("error", reject);
    sending.end(text);
    return promise.catch((error: unknown) => {
      if (!signal.aborted) throw error;
      throw new KubernetesTimeout(`no answer to ${method} ${path} within ${timeoutMs} ms`);
    });
  }

  return {
    call,
    close: () => void dialed?.then(({ agent }) => agent.destroy()).catch(() => {}),
  };
}

function pathOf({ apiVersion, resource, namespace }: Kind, name?: string): string {
  const root = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const where = namespace === undefined ? root : `${root}/namespaces/${namespace}`;
  return `${where}/${resource}${name === undefined ? "" : `/${encodeURIComponent(name)}`}`;
}

/** @throws KubernetesError */
function parsed(status: number, text: string): unknown {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    // A proxy in between may answer in words.
    body = { message: text.slice(0, 200) };
  }
  if (status >= 200 && status < 300) return body;
  const { reason, message } = statusSchema.catch({ reason: "", message: "" }).parse(body);
  throw new KubernetesError(status, reason, `${status} ${reason} ${message}`.trim());
}
