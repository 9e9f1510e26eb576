import type { AcceptedFrame, ChatFrame, ErrorFrame, ServerFrame } from "../events/frames.ts";
import { socketAuthPrefix, socketProtocol } from "../events/socket-protocol.ts";
import { AxonClientError } from "./errors.ts";
import { FollowedTurn, type Turn, type TurnFrame } from "./turn.ts";

export interface ChatRequest {
  prompt: string;
  /** Goes on with this conversation; left out, a new one starts. */
  conversationId?: string;
  model?: string;
  sampling?: NonNullable<ChatFrame["sampling"]>;
  /** Aborting cancels the turn. */
  signal?: AbortSignal;
}

export type ConnectionState = "idle" | "connecting" | "open" | "reconnecting" | "closed";

export interface Client {
  /** Asks. The same request is sent again after a lost connection, and is answered once. */
  chat(request: ChatRequest): Turn;
  /** Follows a turn, running or ended, from the token after `after` (default 0). */
  resume(request: { turnId: string; after?: number }): Turn;
  /** Closes the socket. Turns that run go on; here they end with the code `closed`. */
  close(): void;
}

export interface ConnectOptions {
  /** `wss://…` */
  url: string;
  /** An API key or a token. */
  credential: string;
  onState?: (state: ConnectionState) => void;
  /** What to open sockets with; the platform's own by default. */
  webSocket?: typeof WebSocket;
}

/** `WebSocket.OPEN`, whatever class of sockets is used. */
const socketOpen = 1;
const askAgainMs = 1_000;
const firstDelayMs = 100;
const mostDelayMs = 5_000;
/** A client that has never been connected gives up after so many attempts: something is wrong. */
const mostFirstAttempts = 4;
/** Frames of turns that are not known yet, kept until their `accepted` names them. */
const mostEarlyFrames = 1_000;

/**
 * A client of Axon. It connects with the first request, and after a lost connection by itself, as
 * long as there are turns to follow: those that were accepted go on after the last token applied,
 * those that were not are asked again under the same request id.
 */
export function connect(options: ConnectOptions): Client {
  return new SocketClient(options);
}

class SocketClient implements Client {
  readonly #url: string;
  readonly #protocols: string[];
  readonly #onState: (state: ConnectionState) => void;
  readonly #webSocket: typeof WebSocket;
  readonly #turns = new Set<FollowedTurn>();
  readonly #unaccepted = new Map<FollowedTurn, ChatFrame>();
  readonly #earlyFrames: TurnFrame[] = [];
  #socket: WebSocket | undefined;
  #hasBeenOpen = false;
  #failures = 0;
  #closed = false;

  constructor({ url, credential, onState = () => {}, webSocket = WebSocket }: ConnectOptions) {
    this.#url = url;
    this.#protocols = [socketProtocol, socketAuthPrefix + base64url(credential)];
    this.#onState = onState;
    this.#webSocket = webSocket;
  }

  chat({ signal, ...request }: ChatRequest): Turn {
    const turn = this.#follow();
    this.#unaccepted.set(turn, { action: "chat", requestId: crypto.randomUUID(), ...request });
    if (signal?.aborted) turn.cancel();
    else signal?.addEventListener("abort", () => turn.cancel(), { once: true });
    this.#begin(turn);
    return turn;
  }

  resume({ turnId, after = 0 }: { turnId: string; after?: number }): Turn {
    const turn = this.#follow();
    turn.turnId = turnId;
    turn.applied = after;
    this.#begin(turn);
    return turn;
  }

  close(): void {
    this.#closed = true;
    this.#failAll("closed", "This client was closed.");
    this.#socket?.close(1000);
    this.#socket = undefined;
  }

  #follow(): FollowedTurn {
    const turn = new FollowedTurn(
      (frame) => this.#send(frame),
      (left) => {
        this.#turns.delete(left);
        this.#unaccepted.delete(left);
      },
    );
    if (this.#closed) turn.fail(new AxonClientError("closed", "This client was closed."));
    else this.#turns.add(turn);
    return turn;
  }

  #begin(turn: FollowedTurn): void {
    if (this.#socket?.readyState === socketOpen) this.#introduce(turn);
    else this.#open();
  }

  #open(): void {
    if (this.#socket !== undefined || this.#closed) return;
    this.#onState(this.#hasBeenOpen ? "reconnecting" : "connecting");
    const socket = new this.#webSocket(this.#url, this.#protocols);
    this.#socket = socket;
    socket.onopen = () => {
      this.#hasBeenOpen = true;
      this.#failures = 0;
      this.#onState("open");
      for (const turn of this.#turns) this.#introduce(turn);
    };
    socket.onmessage = ({ data }) => this.#receive(JSON.parse(String(data)) as ServerFrame);
    socket.onclose = () => {
      if (this.#socket === socket) this.#onClose();
    };
  }

  #onClose(): void {
    this.#socket = undefined;
    this.#failures++;
    if (this.#turns.size === 0) {
      this.#onState("idle");
    } else if (this.#hasBeenOpen || this.#failures < mostFirstAttempts) {
      this.#onState("reconnecting");
      const delayMs = Math.min(mostDelayMs, firstDelayMs * 2 ** this.#failures);
      setTimeout(() => this.#open(), delayMs * (0.5 + Math.random() / 2));
    } else {
      const message = `No connection to ${this.#url}. Check the address and the key.`;
      this.#failAll("connection_failed", message);
    }
  }

  /** Tells the server what we want of a turn: on a new connection it knows nothing of it. */
  #introduce(turn: FollowedTurn): void {
    const request = this.#unaccepted.get(turn);
    if (request !== undefined) this.#send(request);
    else this.#send({ action: "resume", turnId: turn.turnId, after: turn.applied });
    if (turn.cancelRequested) turn.cancel();
  }

  #send(frame: object): void {
    // What cannot be sent now is said anew when the connection is back.
    if (this.#socket?.readyState === socketOpen) this.#socket.send(JSON.stringify(frame));
  }

  #receive(frame: ServerFrame): void {
    if (frame.type === "accepted") this.#accept(frame);
    else if (frame.type === "error") this.#refuse(frame);
    else this.#route(frame);
  }

  #accept(frame: AcceptedFrame): void {
    for (const [turn, { requestId }] of this.#unaccepted) {
      if (requestId !== frame.requestId) continue;
      this.#unaccepted.delete(turn);
      turn.accept(frame);
    }
    for (const early of this.#earlyFrames.splice(0)) this.#route(early);
  }

  #route(frame: TurnFrame): void {
    const known = [...this.#turns].filter((turn) => turn.turnId === frame.turnId);
    for (const turn of known) turn.apply(frame);
    if (known.length > 0 || this.#unaccepted.size === 0) return;
    // Once too many are held back the oldest go: the gap they leave is asked for when it is found.
    this.#earlyFrames.push(frame);
    if (this.#earlyFrames.length > mostEarlyFrames) this.#earlyFrames.shift();
  }

  #refuse({ requestId, turnId, code, message, ...details }: ErrorFrame): void {
    for (const turn of this.#turns) {
      const request = this.#unaccepted.get(turn);
      const isMeant = request ? request.requestId === requestId : turn.turnId === turnId;
      if (!isMeant) continue;
      if (request !== undefined || !details.retryable) {
        turn.fail(new AxonClientError(code, message, details));
      } else {
        // A turn that was accepted goes on, whatever becomes of a request about it: ask again.
        setTimeout(() => this.#turns.has(turn) && this.#introduce(turn), askAgainMs);
      }
    }
  }

  #failAll(code: string, message: string): void {
    this.#failures = 0;
    this.#onState(this.#closed ? "closed" : "idle");
    for (const turn of [...this.#turns]) {
      turn.fail(new AxonClientError(code, message, { retryable: code === "connection_failed" }));
    }
  }
}

function base64url(text: string): string {
  const bytes = new TextEncoder().encode(text);
  const encoded = btoa(String.fromCharCode(...bytes));
  return encoded.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
