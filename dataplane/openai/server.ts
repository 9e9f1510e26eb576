import { networkCodes } from "../../events/passing-faults.ts";
import type { Failure } from "../errors.ts";

/** Where an OpenAI-compatible server is. */
export interface ServerAddress {
  /** With or without the path /v1. */
  url: string;
  /** Sent as a bearer token. */
  apiKey?: string;
}

/** A call that did not succeed; `failure` says what that means for whoever made it. */
export class ServerError extends Error {
  override readonly name = "ServerError";
  readonly failure: Failure;
  /** Of the reply; undefined where there was none. */
  readonly status: number | undefined;

  constructor(
    failure: Failure,
    message: string,
    { status, cause }: { status?: number; cause?: unknown } = {},
  ) {
    super(message, { cause });
    this.failure = failure;
    this.status = status;
  }
}

const callTimeoutMs = 30_000;
/** What is quoted of a reply in an error. */
const quotedLength = 500;

/** An OpenAI-compatible server over HTTP. All methods throw ServerError, or the signal's reason. */
export class Server {
  readonly url: string;
  readonly #headers: Record<string, string>;

  constructor({ url, apiKey }: ServerAddress) {
    this.url = url.replace(/\/+$/, "").replace(/\/v1$/, "");
    this.#headers = {
      "content-type": "application/json",
      ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
    };
  }

  async getText(path: string, timeoutMs = callTimeoutMs): Promise<string> {
    const signal = AbortSignal.timeout(timeoutMs);
    const reply = await this.#call(path, { method: "GET", signal });
    return this.#reading(path, () => reply.text());
  }

  async getJson(path: string, timeoutMs = callTimeoutMs): Promise<unknown> {
    return parsed(path, await this.getText(path, timeoutMs));
  }

  async postJson(path: string, body: unknown, timeoutMs = callTimeoutMs): Promise<unknown> {
    const signal = AbortSignal.timeout(timeoutMs);
    const reply = await this.#call(path, { method: "POST", body: JSON.stringify(body), signal });
    return parsed(path, await this.#reading(path, () => reply.text()));
  }

  /**
   * The data of each server-sent event, until "[DONE]" or the end. Leaving the loop, or the signal, closes
   * the connection: the server takes that as a cancel.
   */
  async *postForEvents(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<string> {
    const reply = await this.#call(path, { method: "POST", body: JSON.stringify(body), signal });
    if (reply.body === null) throw new ServerError("retryable", `${path} has no body.`);
    const lines = reply.body.pipeThrough(new TextDecoderStream());
    const reader = lines.getReader();
    let rest = "";
    try {
      for (;;) {
        const { done, value } = await this.#reading(path, () => reader.read(), signal);
        if (done) return;
        const complete = (rest + value).split(/\r?\n/);
        rest = complete.pop() ?? "";
        for (const line of complete) {
          if (!line.startsWith("data:")) continue;
          const data = line.slice("data:".length).trim();
          if (data === "[DONE]") return;
          yield data;
        }
      }
    } finally {
      await reader.cancel().catch(() => {});
    }
  }

  async #call(path: string, init: RequestInit): Promise<Response> {
    const { signal } = init;
    const call = () => fetch(this.url + path, { ...init, headers: this.#headers });
    const reply = await this.#reading(path, call, signal ?? undefined);
    if (reply.ok) return reply;
    const text = await this.#reading(path, () => reply.text());
    const message = `${path} is answered with ${reply.status}: ${messageIn(text)}`;
    throw new ServerError(failureOf(reply.status), message, { status: reply.status });
  }

  /** Makes a broken connection a ServerError; a signal that is not a time limit stays what it is. */
  async #reading<T>(path: string, read: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    try {
      return await read();
    } catch (cause) {
      const isTimeout = cause instanceof Error && cause.name === "TimeoutError";
      if (signal?.aborted && !isTimeout) throw cause;
      const why = reasonOf(cause);
      const failure = why === "ECONNREFUSED" ? "gone" : "retryable";
      throw new ServerError(failure, `${this.url}${path} cannot be reached: ${why}.`, { cause });
    }
  }
}

function failureOf(status: number): Failure {
  if (status === 429 || status === 503) return "throttled";
  return status >= 500 || status === 408 ? "retryable" : "fatal";
}

/** The code of the system's error, where there is one. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === "TimeoutError") return "no answer in time";
  const { code, cause } = error as { code?: string; cause?: unknown };
  if (code !== undefined && networkCodes.has(code)) return code;
  return cause === undefined ? error.message : reasonOf(cause);
}

function parsed(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new ServerError("fatal", `${path} is answered with no JSON.`, { cause });
  }
}

/** What OpenAI's error object says, or the beginning of another reply. */
function messageIn(text: string): string {
  try {
    const { error, message } = JSON.parse(text) as { error?: unknown; message?: unknown };
    const inner =
      typeof error === "object" && error !== null ? error : { message: error ?? message };
    if ("message" in inner && typeof inner.message === "string") {
      return inner.message.slice(0, quotedLength);
    }
  } catch {
    // Proxies and frameworks answer with pages of their own.
  }
  return text.slice(0, quotedLength);
}
