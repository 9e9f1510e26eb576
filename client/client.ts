import type { ChatFrame, ServerFrame } from "../events/frames.ts";
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
  const { url, credential, onState = () => {}, webSocket = WebSocket } = options;
  const protocols = [socketProtocol, socketAuthPrefix + base64url(credential)];
  const turns = new Set<FollowedTurn>();
  const unaccepted = new Map<FollowedTurn, ChatFrame>();
  const earlyFrames: TurnFrame[] = [];
  let socket: WebSocket | undefined;
  let hasBeenOpen = false;
  let failures = 0;
  let closed = false;

  function open(): void {
    if (socket !== undefined || closed) return;
    onState(hasBeenOpen ? "reconnecting" : "connecting");
    const opened = new webSocket(url, protocols);
    socket = opened;
    opened.onopen = () => {
      hasBeenOpen = true;
      failures = 0;
      onState("open");
      for (const turn of turns) introduce(turn);
    };
    opened.onmessage = ({ data }) => receive(data);
    opened.onclose = () => {
      if (socket !== opened) return;
      socket = undefined;
      failures++;
      if (turns.size === 0) onState(closed ? "closed" : "idle");
      else if (hasBeenOpen || failures < mostFirstAttempts) reopenLater();
      else failAll("connection_failed", `No connection to ${url}. Check the address and the key.`);
    };
  }

  function reopenLater(): void {
    onState("reconnecting");
    const delayMs = Math.min(mostDelayMs, firstDelayMs * 2 ** failures);
    setTimeout(open, delayMs * (0.5 + Math.random() / 2));
  }

  /** Tells the server what we want of a turn: on a new connection it knows nothing of it. */
  function introduce(turn: FollowedTurn): void {
    const request = unaccepted.get(turn);
    if (request !== undefined) send(request);
    else send({ action: "resume", turnId: turn.turnId, after: turn.applied });
    if (turn.cancelRequested) turn.cancel();
  }

  function send(frame: object): void {
    // What cannot be sent now is said anew by `introduce` when the connection is back.
    if (socket?.readyState === 1) socket.send(JSON.stringify(frame));
  }

  function receive(data: unknown): void {
    const frame = JSON.parse(String(data)) as ServerFrame;
    switch (frame.type) {
      case "accepted":
        for (const [turn, { requestId }] of unaccepted) {
          if (requestId !== frame.requestId) continue;
          unaccepted.delete(turn);
          turn.accept(frame);
        }
        for (const early of earlyFrames.splice(0)) route(early);
        return;
      case "error":
        return refuse(frame);
      case "tokens":
      case "rewind":
      case "done":
        return route(frame);
    }
  }

  function route(frame: TurnFrame): void {
    const known = [...turns].filter((turn) => turn.turnId === frame.turnId);
    for (const turn of known) turn.apply(frame);
    if (known.length > 0 || unaccepted.size === 0) return;
    // Once too many are held back the oldest go: the gap they leave is asked for when it is found.
    earlyFrames.push(frame);
    if (earlyFrames.length > mostEarlyFrames) earlyFrames.shift();
  }

  function refuse({
    requestId,
    turnId,
    code,
    message,
    ...details
  }: ServerFrame & { type: "error" }) {
    const error = new AxonClientError(code, message, details);
    for (const turn of turns) {
      const request = unaccepted.get(turn);
      if (request === undefined ? turn.turnId !== turnId : request.requestId !== requestId)
        continue;
      // A turn that was accepted goes on whatever becomes of a request about it: ask again.
      if (request === undefined && details.retryable)
        setTimeout(() => introduceIfOpen(turn), 1_000);
      else turn.fail(error);
    }
  }

  function introduceIfOpen(turn: FollowedTurn): void {
    if (turns.has(turn)) introduce(turn);
  }

  function failAll(code: string, message: string): void {
    onState(closed ? "closed" : "idle");
    for (const turn of [...turns]) {
      turn.fail(new AxonClientError(code, message, { retryable: code === "connection_failed" }));
    }
    failures = 0;
  }

  function follow(): FollowedTurn {
    const turn = new FollowedTurn(send, (left) => {
      turns.delete(left);
      unaccepted.delete(left);
    });
    if (closed) turn.fail(new AxonClientError("closed", "This client was closed."));
    else turns.add(turn);
    return turn;
  }

  function begin(turn: FollowedTurn): void {
    if (socket?.readyState === 1) introduce(turn);
    else open();
  }

  return {
    chat({ signal, ...request }) {
      const turn = follow();
      unaccepted.set(turn, { action: "chat", requestId: crypto.randomUUID(), ...request });
      if (signal?.aborted) turn.cancel();
      else signal?.addEventListener("abort", () => turn.cancel(), { once: true });
      begin(turn);
      return turn;
    },

    resume({ turnId, after = 0 }) {
      const turn = follow();
      turn.turnId = turnId;
      turn.applied = after;
      begin(turn);
      return turn;
    },

    close() {
      closed = true;
      failAll("closed", "This client was closed.");
      socket?.close(1000);
      socket = undefined;
    },
  };
}

function base64url(text: string): string {
  const bytes = new TextEncoder().encode(text);
  const encoded = btoa(String.fromCharCode(...bytes));
  return encoded.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
