import { socketAuthPrefix, socketProtocol } from "../events/socket-protocol.ts";
import { AxonClientError } from "./errors.ts";
import {
  FollowedTurn,
  type Turn,
  type TurnFrame,
  type TurnLine,
  type TurnProgress,
} from "./turn.ts";
import type { AcceptedFrame, ChatFrame, ErrorFrame, ServerFrame } from "./wire.ts";

export { AxonClientError } from "./errors.ts";
export type { Turn, TurnProgress, TurnUpdate } from "./turn.ts";

export interface ChatRequest {
  prompt: string;
  /**
   * One of your own, unique for ever, makes it possible to send a request again that was refused with
   * `retryable`: under the same id it is the same turn, also where the first one was recorded after all.
   */
  requestId?: string;
  /** Goes on with this conversation; left out, a new one starts. */
  conversationId?: string;
  model?: string;
  sampling?: NonNullable<ChatFrame["sampling"]>;
  /** "batch" when nobody waits for the answer: interactive turns go first. */
  priority?: NonNullable<ChatFrame["priority"]>;
  /**
   * The span that the request is part of, as W3C Trace Context writes it: the server's spans become its
   * children. Leave it out unless you record that span yourself; the server begins a trace then.
   */
  traceparent?: string;
  /** Aborting cancels the turn. */
  signal?: AbortSignal;
}

/** A turn, running or ended, and what the caller has of it: a turn's `progress`, or nothing. */
export interface ResumeRequest extends Partial<TurnProgress> {
  turnId: string;
  /** Aborting cancels the turn. */
  signal?: AbortSignal;
}

export type ConnectionState = "idle" | "connecting" | "open" | "reconnecting" | "closed";

export interface Client {
  /** Asks. The same request is sent again after a lost connection, and is answered once. */
  chat(request: ChatRequest): Turn;
  /**
   * Follows a turn from the token after `after` (default 0, its beginning). With `text`, the answer up to
   * there, the whole answer can be told in the end; without, `text` of the updates begins after it.
   */
  resume(request: ResumeRequest): Turn;
  /** Closes the socket. Turns that run go on; here they end with the code `closed`. */
  close(): void;
}

export interface ConnectOptions {
  /** `wss://…` */
  url: string;
  /** An API key or a token. It travels in a subprotocol, not in the address. */
  credential: string;
  /** Called with each change of the connection's state. */
  onState?: (state: ConnectionState) => void;
  /** What to open sockets with; the platform's own by default. */
  webSocket?: typeof WebSocket;
  /**
   * A turn of which nothing was heard for so long is asked about again, and then at growing intervals:
   * this covers any message that was lost. Default 10,000.
   */
  quietMs?: number;
}

/** `WebSocket.OPEN`, whatever class of sockets is used. */
const socketOpen = 1;
const askAgainMs = 1_000;
const firstDelayMs = 100;
const mostDelayMs = 5_000;
/** A client that has never been connected gives up after so many attempts: something is wrong. */
const mostFirstAttempts = 4;
/** So many reminders without a word from the server, and the socket is taken for dead. */
const mostReminders = 3;
/** The server reads no longer frame: it would close the socket, again and again. */
const mostFrameBytes = 32 * 1024;
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
  readonly #line: TurnLine;
  #socket: WebSocket | undefined;
  #openLater: ReturnType<typeof setTimeout> | undefined;
  #remindersSinceHeard = 0;
  #hasBeenOpen = false;
  #failures = 0;
  #closed = false;

  constructor(options: ConnectOptions) {
    const {
      url,
      credential,
      onState = () => {},
      webSocket = WebSocket,
      quietMs = 10_000,
    } = options;
    this.#url = url;
    this.#protocols = [socketProtocol, socketAuthPrefix + base64url(credential)];
    this.#onState = onState;
    this.#webSocket = webSocket;
    this.#line = {
      send: (frame) => this.#send(frame),
      remind: (turn) => this.#remind(turn),
      leave: (turn) => this.#leave(turn),
      quietMs,
    };
  }

  chat({ signal, ...request }: ChatRequest): Turn {
    const frame: ChatFrame = { action: "chat", requestId: crypto.randomUUID(), ...request };
    const turn = this.#follow(signal);
    if (this.#turns.has(turn)) this.#unaccepted.set(turn, frame);
    if (new TextEncoder().encode(JSON.stringify(frame)).length > mostFrameBytes) {
      const message = `A request has at most ${mostFrameBytes} bytes. Shorten the prompt.`;
      turn.fail(new AxonClientError("prompt_too_long", message, { field: "prompt" }));
    }
    this.#begin(turn);
    return turn;
  }

  resume({ signal, turnId, after = 0, epoch = 0, text = "" }: ResumeRequest): Turn {
    const turn = this.#follow(signal);
    turn.turnId = turnId;
    turn.startFrom({ after, epoch, text });
    this.#begin(turn);
    return turn;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#openLater);
    this.#failAll("closed", "This client was closed.");
    this.#socket?.close(1000);
    this.#socket = undefined;
  }

  #follow(signal: AbortSignal | undefined): FollowedTurn {
    const turn = new FollowedTurn(this.#line);
    if (this.#closed) turn.fail(new AxonClientError("closed", "This client was closed."));
    else this.#turns.add(turn);
    if (signal?.aborted) turn.cancelRequested = true;
    else signal?.addEventListener("abort", () => turn.cancel(), { once: true });
    return turn;
  }

  #leave(turn: FollowedTurn): void {
    this.#turns.delete(turn);
    this.#unaccepted.delete(turn);
    if (this.#unaccepted.size === 0) this.#earlyFrames.length = 0;
  }

  #begin(turn: FollowedTurn): void {
    if (!this.#turns.has(turn)) return;
    if (this.#socket?.readyState === socketOpen) this.#introduce(turn);
    else this.#open();
  }

  #open(): void {
    clearTimeout(this.#openLater);
    if (this.#socket !== undefined || this.#closed) return;
    this.#onState(this.#hasBeenOpen ? "reconnecting" : "connecting");
    const socket = new this.#webSocket(this.#url, this.#protocols);
    this.#socket = socket;
    this.#remindersSinceHeard = 0;
    socket.onopen = () => {
      this.#hasBeenOpen = true;
      this.#onState("open");
      for (const turn of this.#turns) this.#introduce(turn);
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(JSON.parse(String(data)) as ServerFrame);
    };
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
      // Whose turns have all been left meanwhile needs no connection.
      this.#openLater = setTimeout(
        () => (this.#turns.size > 0 ? this.#open() : this.#onState("idle")),
        delayMs * (0.5 + Math.random() / 2),
      );
    } else {
      const message = `No connection to ${this.#url}. Check the address and the key.`;
      this.#failAll("connection_failed", message);
    }
  }

  /** Tells the server what we want of a turn: on a new connection it knows nothing of it. */
  #introduce(turn: FollowedTurn): void {
    const request = this.#unaccepted.get(turn);
    if (request !== undefined) this.#send(request);
    else turn.ask();
    if (turn.cancelRequested) turn.cancel();
  }

  #remind(turn: FollowedTurn): void {
    const socket = this.#socket;
    if (socket === undefined) return;
    if (++this.#remindersSinceHeard > mostReminders && turn.reminders >= mostReminders) {
      // A socket whose network is gone may not find out for a long time, nor be closed in good order.
      this.#onClose();
      socket.close();
    } else if (socket.readyState === socketOpen) {
      this.#introduce(turn);
    }
  }

  #send(frame: object): void {
    // What cannot be sent now is said anew when the connection is back.
    if (this.#socket?.readyState === socketOpen) this.#socket.send(JSON.stringify(frame));
  }

  #receive(frame: ServerFrame): void {
    this.#failures = 0;
    this.#remindersSinceHeard = 0;
    switch (frame.type) {
      case "accepted":
        this.#accept(frame);
        break;
      case "error":
        this.#refuse(frame);
        break;
      case "tokens":
      case "rewind":
      case "done":
        this.#route(frame);
        break;
      default: // Of a later version, and not meant for this one.
    }
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
    // With nothing named, it is the whole connection that is refused.
    const isForAll = code === "unauthenticated" && requestId === undefined && turnId === undefined;
    for (const turn of this.#turns) {
      const request = this.#unaccepted.get(turn);
      const isMeant = request ? request.requestId === requestId : turn.turnId === turnId;
      if (!isMeant && !isForAll) continue;
      if (request !== undefined || !details.retryable) {
        turn.fail(new AxonClientError(code, message, details));
      } else {
        // A turn that was accepted goes on, whatever becomes of a request about it: ask again.
        turn.remindIn(details.retryAfterMs ?? askAgainMs);
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
