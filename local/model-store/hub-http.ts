/** HTTP with the hub: who gets the token, what is tried again, and when it is given up. */

import { setTimeout as sleep } from "node:timers/promises";
import { ModelStoreError } from "./model-store-error.ts";
import type { TellPull } from "./pull-events.ts";

export interface Hub {
  /** Without a slash at its end. */
  endpoint: string;
  token?: string | undefined;
  /** Before the second try; each further wait is twice as long. */
  retryMs: number;
  /** After so long without a byte a connection is given up. */
  stallMs: number;
  signal: AbortSignal;
  tell: TellPull;
}

/** A failure that may pass: of the network, or of a server that says so. */
export class PassingFailure extends Error {
  override readonly name = "PassingFailure";
  readonly retryAfterMs: number | undefined;
  constructor(
    message: string,
    { cause, retryAfterMs }: { cause?: unknown; retryAfterMs?: number },
  ) {
    super(message, { cause });
    this.retryAfterMs = retryAfterMs;
  }
}

const maxRedirects = 5;
/** A server that asks for a longer pause is not waited for. */
const longestWaitMs = 300_000;
const passingStatuses = [408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524];

const networkCodes: Readonly<Record<string, string>> = {
  ENOTFOUND: "no such host is known",
  EAI_AGAIN: "names cannot be looked up",
  ECONNREFUSED: "nothing answers there",
  ECONNRESET: "the connection broke",
  UND_ERR_SOCKET: "the connection broke",
  UND_ERR_CONNECT_TIMEOUT: "no connection in time",
};

/** HF_ENDPOINT and HF_TOKEN. Throws ModelStoreError "invalid_source". */
export function hubFromEnvironment(env: NodeJS.ProcessEnv): Pick<Hub, "endpoint" | "token"> {
  const endpoint = (env["HF_ENDPOINT"] || "https://huggingface.co").replace(/\/+$/, "");
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol) || url.username + url.password !== "") {
    throw new ModelStoreError(
      "invalid_source",
      "HF_ENDPOINT is no address of a hub. It looks like https://huggingface.co, without a password.",
    );
  }
  const token = env["HF_TOKEN"]?.trim() ?? "";
  if (/[^\x21-\x7e]/.test(token)) {
    throw new ModelStoreError("invalid_source", "HF_TOKEN holds characters that no token has.");
  }
  return { endpoint, ...(token !== "" && { token }) };
}

/**
 * GET with redirects followed. The token goes to the hub's own origin and nowhere else. Throws
 * PassingFailure, or ModelStoreError "interrupted", "unreachable" or "bad_answer".
 */
export async function get(
  hub: Hub,
  address: string,
  { headers, signal }: { headers?: Record<string, string>; signal: AbortSignal },
): Promise<Response> {
  const home = new URL(hub.endpoint).origin;
  let url = new URL(address);
  for (let hop = 0; hop <= maxRedirects; hop++) {
    const isHome = url.origin === home;
    const response = await fetchOnce(
      hub,
      url,
      {
        "user-agent": "axon",
        // A compressed answer would have neither the announced length nor ranges.
        "accept-encoding": "identity",
        ...headers,
        ...(isHome && hub.token !== undefined && { authorization: `Bearer ${hub.token}` }),
      },
      signal,
    );
    const location = response.headers.get("location");
    if (response.status < 300 || response.status > 399 || location === null) {
      await refusePassing(url, response, isHome);
      return response;
    }
    await response.body?.cancel();
    url = redirected(url, location);
  }
  throw new ModelStoreError("bad_answer", `${url.host} redirects again and again.`);
}

function redirected(from: URL, location: string): URL {
  const to = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
  const isSafe =
    to?.protocol === "https:" || (to?.protocol === "http:" && from.protocol === "http:");
  if (to !== undefined && isSafe) return to;
  throw new ModelStoreError(
    "bad_answer",
    `${from.host} redirects to an address that is not safe to follow.`,
  );
}

async function fetchOnce(
  hub: Hub,
  url: URL,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<Response> {
  try {
    return await fetch(url, { headers, signal, redirect: "manual" });
  } catch (cause) {
    throw networkFailure(hub, url.host, cause);
  }
}

/** The content of an answer, piece by piece. Throws as `get` does. */
export async function* contentOf(
  hub: Hub,
  host: string,
  response: Response,
): AsyncGenerator<Uint8Array> {
  if (response.body === null) return;
  try {
    for await (const chunk of response.body) yield chunk;
  } catch (cause) {
    throw networkFailure(hub, host, cause);
  }
}

/**
 * Calls `use` with a signal that ends what it does with the network when the pull is stopped, or when
 * `alive` was not called for `stallMs`.
 */
export async function watched<T>(
  hub: Hub,
  use: (signal: AbortSignal, alive: () => void) => Promise<T>,
): Promise<T> {
  const stalled = new AbortController();
  const reason = new DOMException(`nothing came for ${hub.stallMs / 1_000} s`, "TimeoutError");
  const timer = setTimeout(() => stalled.abort(reason), hub.stallMs);
  try {
    return await use(AbortSignal.any([hub.signal, stalled.signal]), () => timer.refresh());
  } finally {
    clearTimeout(timer);
  }
}

function networkFailure(hub: Hub, host: string, cause: unknown): unknown {
  if (hub.signal.aborted) return interrupted();
  if (!(cause instanceof Error)) return cause;
  const inner = cause.cause instanceof Error ? cause.cause : cause;
  const code = String((inner as NodeJS.ErrnoException).code ?? "");
  if (/CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ISSUER|ALTNAME/.test(code)) {
    return new ModelStoreError(
      "unreachable",
      `${host} does not prove who it is (${code}). Behind a proxy with a certificate of its own, ` +
        "name that one by NODE_EXTRA_CA_CERTS.",
      { cause },
    );
  }
  const known = networkCodes[code];
  const why = known === undefined ? code || inner.message : `${known} (${code})`;
  const isStalled = cause.name === "TimeoutError";
  return new PassingFailure(`${host}: ${isStalled ? cause.message : why}`, { cause });
}

/** Throws PassingFailure for an answer that may be another one soon. */
async function refusePassing(url: URL, response: Response, isHome: boolean): Promise<void> {
  const { status } = response;
  // A signed address of the CDN may have run out; the next try gets a new one.
  if (!passingStatuses.includes(status) && (isHome || status !== 403)) return;
  await response.body?.cancel();
  const retryAfterMs = waitOf(response.headers.get("retry-after"));
  throw new PassingFailure(`${url.host} answered ${status}`, {
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
}

/** Of a Retry-After header, which holds seconds or a date. */
function waitOf(header: string | null): number | undefined {
  if (header === null) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/**
 * Calls `attempt` until it does not fail passingly, at most `tries` times in a row in which `progress()`
 * stays the same. Throws ModelStoreError "unreachable" or "interrupted", and what else `attempt` throws.
 */
export async function withRetries<T>(
  hub: Hub,
  { tries, progress = () => 0 }: { tries: number; progress?: () => number },
  attempt: () => Promise<T>,
): Promise<T> {
  let seen = progress();
  for (let failures = 0; ; ) {
    try {
      return await attempt();
    } catch (failure) {
      if (hub.signal.aborted) throw interrupted();
      if (!(failure instanceof PassingFailure)) throw failure;
      failures = progress() === seen ? failures + 1 : 1;
      seen = progress();
      const backoffMs = hub.retryMs * 2 ** (failures - 1) * (0.75 + Math.random() / 2);
      const afterMs = Math.round(failure.retryAfterMs ?? backoffMs);
      if (failures >= tries || afterMs > longestWaitMs) throw unreachable(hub, failure);
      hub.tell({ type: "retry", why: failure.message, afterMs });
      await sleep(afterMs, undefined, { signal: hub.signal }).catch(() => {
        throw interrupted();
      });
    }
  }
}

export function interrupted(): ModelStoreError {
  return new ModelStoreError("interrupted", "Stopped. Pull again to go on where it was.");
}

function unreachable(hub: Hub, failure: PassingFailure): ModelStoreError {
  const { host } = new URL(hub.endpoint);
  const wait =
    failure.retryAfterMs === undefined
      ? ""
      : ` It asks to wait for ${Math.ceil(failure.retryAfterMs / 1_000)} s.`;
  return new ModelStoreError(
    "unreachable",
    `The model cannot be had from ${host} (${failure.message}).${wait} Check the network, or set ` +
      "HF_ENDPOINT to a mirror; then pull again, which goes on where it was. Without a network, copy the " +
      "model's folder or .gguf file here and pull that path.",
    { cause: failure },
  );
}
