import { randomBytes } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "@aws-lambda-powertools/logger";
import { WebSocket } from "ws";
import { z } from "zod";
import type { ServerFrame } from "../../events/frames.ts";
import { relayConnectionId } from "../../events/redis-keys.ts";
import {
  type Connection,
  refuseUpgrade,
  SocketApi,
  type SocketFunctions,
  socketLimits,
} from "./sockets.ts";

interface DoorOptions {
  relayId: string;
  functions: SocketFunctions;
  logger: Logger;
}

/** What a connection leaves unread before its next frame waits. The stream holds the rest. */
const unreadBytes = 64 * 1024;
/** A connection that does not answer two of these is gone, whatever its socket says. */
const pingEveryMs = 30_000;

/** The body of a handler's answer: the frames that it has for the connection. */
const resultSchema = z.looseObject({ statusCode: z.number(), body: z.string().optional() });

/**
 * A relay's own door: it terminates WebSockets with the same frames, the same handlers and the same
 * limits as API Gateway does, and without its quota of callbacks. Frames of a turn go straight into the
 * socket; what a client asks goes to the Lambda functions behind API Gateway's routes, and what they
 * answer comes back in their results.
 */
export class FrontDoor {
  readonly #logger: Logger;
  readonly #api: SocketApi;
  readonly #server: Server;
  readonly #unanswered = new WeakSet<Connection>();
  #pinging: NodeJS.Timeout | undefined;
  #onClosed: (connectionId: string) => void = () => {};
  #isOpen = false;
  url: string | undefined;

  constructor({ relayId, functions, logger }: DoorOptions) {
    this.#logger = logger;
    this.#api = new SocketApi({
      functions,
      limits: socketLimits,
      newId: () => relayConnectionId(relayId, randomBytes(9).toString("hex")),
      onResult: (connection, result) => this.#answer(connection, result),
      onClosed: (connectionId) => this.#onClosed(connectionId),
    });
    this.#server = createServer((request, response) => {
      const isHealth = request.url === "/health";
      response.writeHead(isHealth ? (this.#isOpen ? 200 : 503) : 426).end();
    });
    this.#server.on("upgrade", (request, duplex, head) => {
      (duplex as Socket).setNoDelay(true);
      if (!this.#isOpen) refuseUpgrade(duplex, 503);
      else if (!/^\/(\?|$)/.test(request.url ?? "")) refuseUpgrade(duplex, 404);
      else void this.#api.upgrade(request, duplex, head);
    });
  }

  /** Open connections. */
  get size(): number {
    return this.#api.size;
  }

  async listen({ host, port }: { host: string; port: number }): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, host, 1_024, resolve);
    });
    const address = this.#server.address();
    const actual = typeof address === "object" && address !== null ? address.port : port;
    this.url = `ws://${host.includes(":") ? `[${host}]` : host}:${actual}`;
  }

  /** Lets connections in. `onClosed` hears of each that has left. */
  open(onClosed: (connectionId: string) => void): void {
    this.#onClosed = onClosed;
    this.#isOpen = true;
    this.#pinging = setInterval(() => this.#ping(), pingEveryMs);
  }

  /** Sends a frame; waits for a connection that has not read what it was sent before. */
  post(connectionId: string, frame: ServerFrame): "gone" | "sent" | Promise<"gone" | "sent"> {
    const connection = this.#api.connection(connectionId);
    if (connection?.socket.readyState !== WebSocket.OPEN) return "gone";
    const { socket } = connection;
    this.#api.touch(connection);
    const data = JSON.stringify(frame);
    if (socket.bufferedAmount < unreadBytes) {
      socket.send(data);
      return "sent";
    }
    return new Promise((resolve) => socket.send(data, (error) => resolve(error ? "gone" : "sent")));
  }

  /** Lets nobody in any more, and asks those who are here to come back: to another relay, or to the next. */
  async drain(patienceMs: number): Promise<void> {
    this.#isOpen = false;
    clearInterval(this.#pinging);
    const closed = new Promise((resolve) => this.#server.close(resolve));
    await Promise.race([
      this.#api.close(1012, "Service restart"),
      sleep(patienceMs, undefined, { ref: false }),
    ]);
    this.#server.closeAllConnections();
    await closed;
  }

  #answer({ id, socket }: Connection, result: unknown): void {
    const { statusCode, body } = resultSchema.parse(result ?? { statusCode: 200 });
    if (body !== undefined && socket.readyState === WebSocket.OPEN) {
      for (const frame of z.array(z.unknown()).parse(JSON.parse(body))) {
        socket.send(JSON.stringify(frame));
      }
    }
    // The handlers do not know the connection any more: the client shows its credential anew.
    if (statusCode === 410) {
      this.#logger.info("a connection has to introduce itself again", { connectionId: id });
      socket.close(1012, "Connect again");
    }
  }

  #ping(): void {
    for (const connection of this.#api.connections()) {
      const { socket } = connection;
      if (this.#unanswered.has(connection)) {
        socket.terminate();
        continue;
      }
      this.#unanswered.add(connection);
      socket.once("pong", () => this.#unanswered.delete(connection));
      socket.ping();
    }
  }
}
