import { randomBytes } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import type { APIGatewayProxyWebsocketEventV2 } from "aws-lambda";
import { WebSocket, WebSocketServer } from "ws";
import { z } from "zod";
import { frameLengthWatch } from "./frame-length.ts";

/**
 * WebSockets as API Gateway keeps them: its events for the handlers, its limits, its states. The local
 * gateway and a relay's own door are made of it. A connection goes through these states:
 *
 *   connecting → refused   the connect handler answers something else than 2xx: that is the status
 *                          of the handshake. It may also fail (502) or take too long (504).
 *              → open      with the subprotocol that the handler's headers name.
 *   open       → closed    by the client, by a callback, after 10 minutes of silence, after 2 hours,
 *                          by a frame or message that is too long (1009), or as a slow consumer.
 *
 * While it is open each message invokes the handler of its route, side by side with the others: API
 * Gateway keeps no order among them. The disconnect handler hears of every connection that was open.
 * Limits: https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-execution-service-websocket-limits-table.html
 */
export const socketLimits = {
  frameBytes: 32 * 1024,
  messageBytes: 128 * 1024,
  idleMs: 10 * 60_000,
  connectionMs: 2 * 60 * 60_000,
  integrationMs: 29_000,
  /** Ours: a connection that leaves this much unread is dropped. */
  bufferedBytes: 1024 * 1024,
};
export type SocketLimits = typeof socketLimits;

/** The event of a frame; that of `$connect` and `$disconnect` has headers and no message id. */
export type SocketEvent = APIGatewayProxyWebsocketEventV2 & {
  headers?: Record<string, string>;
  multiValueHeaders?: Record<string, string[]>;
  queryStringParameters?: Record<string, string>;
};

/** What is behind the routes: `$connect`, `$disconnect`, `$default`, and values of a frame's `action`. */
export interface SocketFunctions {
  has(route: string): boolean;
  /**
   * Runs the function of a route; of a route that has none the result is undefined.
   * @throws InvocationTimeout when it takes too long, or whatever else goes wrong.
   */
  invoke(route: string, event: SocketEvent): Promise<unknown>;
}

/** A function did not end in the time that its trigger gives it. */
export class InvocationTimeout extends Error {
  override readonly name = "InvocationTimeout";
}

export interface SocketApiOptions {
  functions: SocketFunctions;
  limits: SocketLimits;
  /** A new connection's id. */
  newId?: () => string;
  /** Takes what the function of a frame has returned. */
  onResult?: (connection: Connection, result: unknown) => void;
  onClosed?: (connectionId: string) => void;
}

export interface Connection {
  readonly id: string;
  readonly socket: WebSocket;
  readonly connectedAt: number;
  readonly identity: { sourceIp: string; userAgent: string };
  lastActiveAt: number;
  readonly idleTimer: NodeJS.Timeout;
}

/** Looks like API Gateway's own ids, which end in "=". */
const gatewayId = (): string => `${randomBytes(11).toString("base64url")}=`;

const connectResultSchema = z.object({
  statusCode: z.coerce.number().int(),
  headers: z.record(z.string(), z.unknown()).optional(),
});

export class SocketApi {
  readonly #options: Required<SocketApiOptions>;
  readonly #server: WebSocketServer;
  readonly #connections = new Map<string, Connection>();
  readonly #protocols = new WeakMap<IncomingMessage, string>();
  /** Disconnect handlers that run. */
  readonly #leaving = new Set<Promise<unknown>>();

  constructor(options: SocketApiOptions) {
    this.#options = { newId: gatewayId, onResult: () => {}, onClosed: () => {}, ...options };
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      maxPayload: options.limits.messageBytes,
      handleProtocols: (_offered, request) => this.#protocols.get(request) ?? false,
    });
  }

  connections(): Iterable<Connection> {
    return this.#connections.values();
  }

  get size(): number {
    return this.#connections.size;
  }

  connection(id: string): Connection | undefined {
    return this.#connections.get(id);
  }

  /** Notes that something was sent or received, which keeps an idle connection open. */
  touch(connection: Connection): void {
    connection.lastActiveAt = Date.now();
    connection.idleTimer.refresh();
  }

  async upgrade(request: IncomingMessage, duplex: Duplex, head: Buffer): Promise<void> {
    duplex.on("error", () => undefined);
    const opening = openingConnection(request, this.#options.newId());
    const event = socketEvent(opening, "CONNECT", "$connect", requestOf(request));
    const answer = await this.#options.functions
      .invoke("$connect", event)
      .then(connectAnswer, connectFailure);
    if (answer.status < 200 || answer.status > 299) return refuseUpgrade(duplex, answer.status);
    if (answer.protocol !== undefined) this.#protocols.set(request, answer.protocol);
    if (duplex.destroyed) return this.#leave(opening, 1006, "");
    this.#server.handleUpgrade(request, duplex, head, (socket) =>
      this.#admit(opening, socket, duplex),
    );
  }

  /** Closes every connection and waits until the disconnect handler has heard of each. */
  async close(code = 1001, reason = "Going away"): Promise<void> {
    const closed = [...this.#connections.values()].map(({ socket }) => {
      const gone = new Promise((resolve) => socket.once("close", resolve));
      socket.close(code, reason);
      setTimeout(() => socket.terminate(), 1_000).unref();
      return gone;
    });
    await Promise.all(closed);
    await Promise.all(this.#leaving);
  }

  #admit(opening: OpeningConnection, socket: WebSocket, duplex: Duplex): void {
    const { idleMs, connectionMs, frameBytes } = this.#options.limits;
    const expire = () => socket.close(1001, "Going away");
    const ageTimer = setTimeout(expire, connectionMs).unref();
    const idleTimer = setTimeout(expire, idleMs).unref();
    const connection: Connection = { ...opening, socket, idleTimer };
    this.#connections.set(connection.id, connection);
    // It must see the bytes before `ws` does, so that the message of a long frame is not handled.
    duplex.prependListener(
      "data",
      frameLengthWatch(frameBytes, () => socket.close(1009, "Frame too long")),
    );
    socket.on("message", (data, isBinary) => {
      if (socket.readyState === WebSocket.OPEN && Buffer.isBuffer(data)) {
        this.#receive(connection, data, isBinary);
      }
    });
    // `ws` closes the connection after an error by itself; unheard, the error would end the process.
    socket.on("error", () => undefined);
    socket.on("close", (code, reason) => {
      clearTimeout(idleTimer);
      clearTimeout(ageTimer);
      this.#connections.delete(connection.id);
      this.#options.onClosed(connection.id);
      this.#leave(connection, code, reason.toString());
    });
  }

  #receive(connection: Connection, data: Buffer, isBinary: boolean): void {
    this.touch(connection);
    const body = data.toString(isBinary ? "base64" : "utf8");
    const { functions, onResult } = this.#options;
    const route = isBinary ? "$default" : routeOf(body, functions);
    const event = socketEvent(connection, "MESSAGE", route, { body, isBase64Encoded: isBinary });
    functions.invoke(route, event).then(
      (result) => onResult(connection, result),
      (error: unknown) => {
        const { connectionId, requestId } = event.requestContext;
        const late = error instanceof InvocationTimeout;
        const message = late ? "Endpoint request timed out" : "Internal server error";
        connection.socket.send(JSON.stringify({ message, connectionId, requestId }));
      },
    );
  }

  #leave(connection: OpeningConnection, code: number, reason: string): void {
    const event = socketEvent(connection, "DISCONNECT", "$disconnect");
    Object.assign(event.requestContext, { disconnectStatusCode: code, disconnectReason: reason });
    // As on AWS, nobody is told when this fails; what it would have cleaned up expires by itself.
    const told = this.#options.functions.invoke("$disconnect", event).catch(() => undefined);
    this.#leaving.add(told);
    void told.then(() => this.#leaving.delete(told));
  }
}

type OpeningConnection = Omit<Connection, "socket" | "idleTimer">;

function openingConnection({ socket, headers }: IncomingMessage, id: string): OpeningConnection {
  const now = Date.now();
  return {
    id,
    connectedAt: now,
    lastActiveAt: now,
    identity: {
      sourceIp: (socket.remoteAddress ?? "").replace("::ffff:", ""),
      userAgent: headers["user-agent"] ?? "",
    },
  };
}

function socketEvent(
  { id, connectedAt, identity }: OpeningConnection,
  eventType: "CONNECT" | "MESSAGE" | "DISCONNECT",
  routeKey: string,
  rest: Partial<SocketEvent> = {},
): SocketEvent {
  const now = Date.now();
  const requestContext = {
    ...{ routeKey, eventType, connectionId: id, connectedAt, identity },
    ...{ requestId: gatewayId(), extendedRequestId: gatewayId(), messageId: gatewayId() },
    requestTime: new Date(now).toUTCString(),
    requestTimeEpoch: now,
    messageDirection: "IN" as const,
    stage: "$default",
    domainName: "localhost",
    apiId: "local",
  };
  if (eventType !== "MESSAGE") Reflect.deleteProperty(requestContext, "messageId");
  return { isBase64Encoded: false, ...rest, requestContext };
}

function requestOf(request: IncomingMessage): Partial<SocketEvent> {
  const { searchParams } = new URL(request.url ?? "/", "http://localhost");
  const headers: Record<string, string> = {};
  const multiValueHeaders: Record<string, string[]> = {};
  for (let i = 0; i + 1 < request.rawHeaders.length; i += 2) {
    const name = request.rawHeaders[i] ?? "";
    const value = request.rawHeaders[i + 1] ?? "";
    headers[name] = value;
    multiValueHeaders[name] = [...(multiValueHeaders[name] ?? []), value];
  }
  const parameters = searchParams.size > 0 && {
    queryStringParameters: Object.fromEntries(searchParams),
  };
  return { headers, multiValueHeaders, ...parameters };
}

/** `$request.body.action` is the route selection expression. */
function routeOf(body: string, functions: SocketFunctions): string {
  let action: unknown;
  try {
    action = z.object({ action: z.unknown() }).parse(JSON.parse(body)).action;
  } catch {
    return "$default";
  }
  if (typeof action !== "string" || action.startsWith("$")) return "$default";
  return functions.has(action) ? action : "$default";
}

interface ConnectAnswer {
  status: number;
  protocol?: string;
}

function connectAnswer(result: unknown): ConnectAnswer {
  const parsed = connectResultSchema.safeParse(result);
  if (!parsed.success) return { status: 502 };
  const protocol = Object.entries(parsed.data.headers ?? {}).find(
    ([name]) => name.toLowerCase() === "sec-websocket-protocol",
  )?.[1];
  const status = parsed.data.statusCode;
  return typeof protocol === "string" ? { status, protocol } : { status };
}

const connectFailure = (error: unknown): ConnectAnswer => ({
  status: error instanceof InvocationTimeout ? 504 : 502,
});

/** Ends a handshake with an HTTP status. */
export function refuseUpgrade(duplex: Duplex, status: number): void {
  const head = [`HTTP/1.1 ${status} Refused`, "Connection: close", "Content-Length: 0"];
  duplex.end(`${head.join("\r\n")}\r\n\r\n`);
}
