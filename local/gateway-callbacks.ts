import type { IncomingMessage, ServerResponse } from "node:http";
import { WebSocket } from "ws";
import type { Connection, SocketApi, SocketLimits } from "../dataplane/relay/sockets.ts";

const path = /^\/(?:@|%40)connections\/([^/]+)$/i;

/** The connection that a path of the @connections API is about; undefined for other paths. */
export function callbackTarget(pathname: string): string | undefined {
  const encoded = path.exec(pathname)?.[1];
  return encoded?.replace(/%3d/gi, "=");
}

/**
 * The @connections API of API Gateway: POST sends, GET describes, DELETE closes. The AWS SDK tells
 * one error from another by the header `x-amzn-errortype`. The signature must be there, and is not
 * checked: this server holds no secret keys.
 */
export async function answerCallback(
  api: SocketApi,
  limits: SocketLimits,
  connectionId: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const refuse = (status: number, type: string, message: string): void => {
    response.writeHead(status, { "content-type": "application/json", "x-amzn-errortype": type });
    response.end(JSON.stringify({ message }));
  };
  const body = await readBody(request, limits.messageBytes);
  if (!request.headers.authorization?.startsWith("AWS4-HMAC-SHA256 ")) {
    return refuse(403, "ForbiddenException", "Missing Authentication Token");
  }
  if (body === undefined) return refuse(413, "PayloadTooLargeException", "Message too long");
  const connection = api.connection(connectionId);
  if (connection === undefined || connection.socket.readyState !== WebSocket.OPEN) {
    return refuse(410, "GoneException", "Gone");
  }
  switch (request.method) {
    case "POST":
      if (!(await send(connection, body, limits.bufferedBytes))) {
        return refuse(410, "GoneException", "Gone");
      }
      api.touch(connection);
      response.writeHead(200, { "content-type": "application/json", "content-length": 0 });
      response.end();
      return;
    case "GET":
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify(describe(connection)));
      return;
    case "DELETE":
      connection.socket.close(1000, "Connection Closed Normally");
      response.writeHead(204).end();
      return;
    default:
      refuse(405, "BadRequestException", "Method not allowed");
  }
}

/** @returns the body, or undefined when it is over the limit. */
export async function readBody(
  request: IncomingMessage,
  limitBytes: number,
): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    // The rest is read and dropped, so that the answer can be sent on the same connection.
    if (bytes <= limitBytes) chunks.push(chunk);
  }
  return bytes <= limitBytes ? Buffer.concat(chunks) : undefined;
}

/**
 * Waits until the operating system has taken the message: a sender that waits for the answer goes as
 * fast as the connection. One that lets too much pile up is dropped.
 * @returns whether the message was sent.
 */
function send({ socket }: Connection, data: Buffer, limitBytes: number): Promise<boolean> {
  if (socket.bufferedAmount > limitBytes) {
    socket.terminate();
    return Promise.resolve(false);
  }
  return new Promise((resolve) => {
    socket.send(data, { binary: false }, (error) => resolve(!error));
  });
}

function describe({ connectedAt, lastActiveAt, identity }: Connection) {
  return {
    connectedAt: new Date(connectedAt).toISOString(),
    lastActiveAt: new Date(lastActiveAt).toISOString(),
    identity,
  };
}
