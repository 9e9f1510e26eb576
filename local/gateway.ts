import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import {
  refuseUpgrade,
  SocketApi,
  type SocketEvent,
  type SocketLimits,
  socketLimits,
} from "../dataplane/relay/sockets.ts";
import type { StreamingHandler } from "../functions/lib/streamed-http.ts";
import { isLocalHost, isOwnOrigin, pathOf, urlHost } from "./gateway-access.ts";
import { answerCallback, callbackTarget } from "./gateway-callbacks.ts";
import { answerHttp, type HttpFunction, sendMessage } from "./gateway-http.ts";
import { answerPage } from "./gateway-page.ts";
import { answerStreamed } from "./gateway-stream.ts";
import { handlerFunctions, type LambdaFunction } from "./lambda-context.ts";
import { listenError } from "./part.ts";

export type SocketRoutes = Readonly<Record<string, LambdaFunction<SocketEvent>>>;

export interface GatewayOptions {
  /** 127.0.0.1, unless others are to reach it. */
  host: string;
  /** 0 for any. */
  port: number;
  /** Handlers by route key: `$connect`, `$disconnect`, `$default`, and values of a frame's `action`. */
  routes: SocketRoutes;
  /** Answers /api and what is below it. */
  http: HttpFunction;
  /** Answers /v1 and what is below it, as it goes; without it they are the page's. */
  api?: StreamingHandler;
  /** Folder of the built page. */
  pageDir: string;
  /** What the page finds at /config.json. */
  pageConfig: Record<string, unknown>;
  limits?: Partial<SocketLimits>;
}

export interface Gateway {
  url: string;
  port: number;
  /** Takes no new connections; those that are open go on. */
  quiesce(): void;
  stop(): Promise<void>;
}

/**
 * What API Gateway and a web server do for a deployment, on one port:
 *
 *   GET / with an upgrade   the WebSocket API
 *   /@connections/{id}      its callback API
 *   /api/…                  the HTTP API
 *   /v1/…                   the URL of the function that speaks OpenAI's API
 *   /config.json, the rest  the page
 *
 * @throws StageError port_in_use
 */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const limits = { ...socketLimits, ...options.limits };
  const functions = handlerFunctions(options.routes, limits.integrationMs);
  const sockets = new SocketApi({ functions, limits });
  let quiet = false;

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pathname = pathOf(request.url);
    if (!isLocalHost(request.headers, options.host)) {
      return sendMessage(response, 421, "This host is not served here. Use http://localhost.");
    }
    if (pathname === undefined) return sendMessage(response, 400, "Bad Request");
    const connectionId = callbackTarget(pathname);
    if (connectionId !== undefined) {
      return answerCallback(sockets, limits, connectionId, request, response);
    }
    if (pathname === "/api" || pathname.startsWith("/api/")) {
      return answerHttp(options.http, limits.integrationMs, request, response);
    }
    if (options.api !== undefined && pathname.startsWith("/v1/")) {
      return answerStreamed(options.api, request, response);
    }
    if (pathname === "/config.json") {
      response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store" });
      response.end(JSON.stringify(options.pageConfig));
      return;
    }
    return answerPage(options.pageDir, request, response);
  }

  const server = createServer((request, response) => {
    answer(request, response).catch(() => {
      // A client that went away, or sent what is no URL.
      if (response.headersSent) response.destroy();
      else sendMessage(response, 400, "Bad Request");
    });
  });
  // Longer than the AWS SDK keeps idle connections, so that it never writes to a closed one.
  server.keepAliveTimeout = 65_000;
  server.on("upgrade", (request, duplex, head) => {
    (duplex as Socket).setNoDelay(true);
    if (!isLocalHost(request.headers, options.host)) refuseUpgrade(duplex, 421);
    else if (!isOwnOrigin(request.headers)) refuseUpgrade(duplex, 403);
    else if (quiet) refuseUpgrade(duplex, 503);
    else if (pathOf(request.url) !== "/") refuseUpgrade(duplex, 404);
    else void sockets.upgrade(request, duplex, head);
  });

  await listen(server, options);
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : options.port;
  return {
    url: `http://${urlHost(options.host)}:${port}`,
    port,
    quiesce() {
      quiet = true;
    },
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      await sockets.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

function listen(
  server: ReturnType<typeof createServer>,
  { host, port }: GatewayOptions,
): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(listenError(error, port)));
    server.listen(port, host, 1_024, resolve);
  });
}
