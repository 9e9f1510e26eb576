import type { ErrorFrame } from "../../events/frames.ts";
import type {
  Change,
  NoticedFrame,
  ObservedFrame,
  OperatedFrame,
} from "../../events/observations.ts";
import { socketAuthPrefix, socketProtocol } from "../../events/socket-protocol.ts";

/**
 * The operations page's own connection: questions with one answer each, and `noticed` frames. The chat
 * client (client/) follows token streams, is kept below 5 kB for programs that embed it, and closes when
 * nothing streams; this one stays open as long as the page is.
 *
 * A question (`observe`) that is lost with its connection is asked again on the next one. An order
 * (`operate`) is not: whether it was carried out is not known then, and the operator is told so.
 */
export interface OpsSocket {
  /** @throws OpsError */
  observe(view: string, params: object): Promise<Observed>;
  /** @throws OpsError */
  operate(operation: object): Promise<OperatedFrame["answer"]>;
  /** Hears of growth of the log. @returns what ends it. */
  onNoticed(listener: (changes: readonly Change[]) => void): () => void;
  /** Hears each change of `state`. @returns what ends it. */
  onState(listener: () => void): () => void;
  readonly state: LinkState;
  close(): void;
}

type LinkState = "connecting" | "open" | "reconnecting";

export interface Observed {
  /** When the answer was made, by the server's clock, Unix ms. */
  at: number;
  data: unknown;
}

export class OpsError extends Error {
  override readonly name = "OpsError";
  /** One of docs/PROTOCOL.md, or `connection_lost`, `timeout`, `closed`. */
  readonly code: string;
  readonly retryable: boolean;

  constructor(code: string, message: string, retryable: boolean) {
    super(message);
    this.code = code;
    this.retryable = retryable;
  }
}

export interface OpsSocketOptions {
  url: string;
  credential: string;
  /** A question without an answer for so long has failed, and its connection is taken for dead. */
  answerMs?: number;
}

type Frame = ObservedFrame | OperatedFrame | NoticedFrame | ErrorFrame;

interface Asked {
  frame: { action: "observe" | "operate"; requestId: string };
  isSent: boolean;
  timer: ReturnType<typeof setTimeout>;
  resolve(value: unknown): void;
  reject(error: OpsError): void;
}

const socketOpen = 1;
const firstDelayMs = 250;
const mostDelayMs = 8_000;

export function openOpsSocket(options: OpsSocketOptions): OpsSocket {
  return new ReconnectingSocket(options);
}

class ReconnectingSocket implements OpsSocket {
  readonly #url: string;
  readonly #protocols: string[];
  readonly #answerMs: number;
  readonly #asked = new Map<string, Asked>();
  readonly #noticed = new Set<(changes: readonly Change[]) => void>();
  readonly #watchers = new Set<() => void>();
  #state: LinkState = "connecting";
  #socket: WebSocket | undefined;
  #again: ReturnType<typeof setTimeout> | undefined;
  #failures = 0;
  #isClosed = false;

  constructor({ url, credential, answerMs = 10_000 }: OpsSocketOptions) {
    this.#url = url;
    this.#protocols = [socketProtocol, socketAuthPrefix + base64url(credential)];
    this.#answerMs = answerMs;
    this.#open();
  }

  get state(): LinkState {
    return this.#state;
  }

  async observe(view: string, params: object): Promise<Observed> {
    const frame = { action: "observe", requestId: crypto.randomUUID(), view, ...params } as const;
    return (await this.#ask(frame)) as Observed;
  }

  async operate(operation: object): Promise<OperatedFrame["answer"]> {
    const frame = { action: "operate", requestId: crypto.randomUUID(), operation } as const;
    return (await this.#ask(frame)) as OperatedFrame["answer"];
  }

  onNoticed(listener: (changes: readonly Change[]) => void): () => void {
    this.#noticed.add(listener);
    return () => this.#noticed.delete(listener);
  }

  onState(listener: () => void): () => void {
    this.#watchers.add(listener);
    return () => this.#watchers.delete(listener);
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#again);
    this.#socket?.close(1000);
    this.#socket = undefined;
    for (const { frame } of [...this.#asked.values()]) {
      this.#fail(frame.requestId, new OpsError("closed", "This page was left.", false));
    }
  }

  #ask(frame: Asked["frame"]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed) return reject(new OpsError("closed", "This page was left.", false));
      const { requestId } = frame;
      const timer = setTimeout(() => this.#onSilence(requestId), this.#answerMs);
      const asked: Asked = { frame, isSent: false, timer, resolve, reject };
      this.#asked.set(requestId, asked);
      this.#send(asked);
    });
  }

  #send(asked: Asked): void {
    if (this.#socket?.readyState !== socketOpen) return;
    asked.isSent = true;
    this.#socket.send(JSON.stringify(asked.frame));
  }

  /** A socket whose network is gone may not find out by itself for a long time. */
  #onSilence(requestId: string): void {
    const { isSent = false, frame } = this.#asked.get(requestId) ?? {};
    const message =
      frame?.action === "operate"
        ? "No answer came. Look whether it was done before you ask again."
        : "Axon has not answered. It is asked again.";
    this.#fail(requestId, new OpsError("timeout", message, true));
    const socket = this.#socket;
    if (!isSent || socket === undefined) return;
    this.#onClose();
    socket.close();
  }

  #fail(requestId: string, error: OpsError): void {
    const asked = this.#take(requestId);
    asked?.reject(error);
  }

  #take(requestId: string): Asked | undefined {
    const asked = this.#asked.get(requestId);
    this.#asked.delete(requestId);
    clearTimeout(asked?.timer);
    return asked;
  }

  #open(): void {
    const socket = new WebSocket(this.#url, this.#protocols);
    this.#socket = socket;
    socket.onopen = () => {
      if (this.#socket !== socket) return;
      this.#failures = 0;
      this.#become("open");
      for (const asked of this.#asked.values()) this.#send(asked);
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(JSON.parse(String(data)) as Frame);
    };
    socket.onclose = () => {
      if (this.#socket === socket) this.#onClose();
    };
  }

  #onClose(): void {
    this.#socket = undefined;
    for (const { frame, isSent } of [...this.#asked.values()]) {
      if (frame.action !== "operate" || !isSent) continue;
      const message =
        "The connection was lost before the answer came. Look whether it was done before you ask again.";
      this.#fail(frame.requestId, new OpsError("connection_lost", message, true));
    }
    const delayMs = Math.min(mostDelayMs, firstDelayMs * 2 ** this.#failures++);
    this.#again = setTimeout(() => this.#open(), delayMs * (0.5 + Math.random() / 2));
    this.#become("reconnecting");
  }

  #become(state: LinkState): void {
    if (this.#state === state) return;
    this.#state = state;
    for (const watcher of this.#watchers) watcher();
  }

  #receive(frame: Frame): void {
    switch (frame.type) {
      case "observed":
        this.#take(frame.requestId)?.resolve({ at: frame.at, data: frame.data });
        break;
      case "operated":
        this.#take(frame.requestId)?.resolve(frame.answer);
        break;
      case "noticed":
        for (const listener of this.#noticed) listener(frame.changes);
        break;
      case "error":
        this.#refuse(frame);
        break;
      default: // Of a later version, and not meant for this one.
    }
  }

  /** With no request named, it is the whole connection that is refused. */
  #refuse({ requestId, code, message, retryable }: ErrorFrame): void {
    const error = new OpsError(code, message, retryable);
    const meant = requestId === undefined ? [...this.#asked.keys()] : [requestId];
    for (const each of meant) this.#fail(each, error);
  }
}

function base64url(text: string): string {
  const bytes = new TextEncoder().encode(text);
  const encoded = btoa(String.fromCharCode(...bytes));
  return encoded.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
