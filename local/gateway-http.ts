import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import type {
  APIGatewayProxyEventV2,
  APIGatewayProxyStructuredResultV2,
  Context,
} from "aws-lambda";
import { InvocationTimeout } from "../dataplane/relay/sockets.ts";
import { readBody } from "./gateway-callbacks.ts";
import { invoke } from "./lambda-context.ts";

export type HttpFunction = (
  event: APIGatewayProxyEventV2,
  context: Context,
) => Promise<APIGatewayProxyStructuredResultV2>;

/** API Gateway takes 10 MB; nothing here needs a tenth of it. */
const maxBodyBytes = 1024 * 1024;

/** Answers a request with what a handler makes of API Gateway's HTTP event (payload version 2.0). */
export async function answerHttp(
  handler: HttpFunction,
  timeoutMs: number,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const body = await readBody(request, maxBodyBytes);
  if (body === undefined) return sendMessage(response, 413, "Request Too Long");
  try {
    const result = await invoke("http", handler, httpEvent(request, body), timeoutMs);
    const { statusCode = 200, headers = {}, isBase64Encoded, cookies } = result;
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, String(value));
    if (cookies !== undefined) response.setHeader("set-cookie", cookies);
    response.writeHead(statusCode);
    response.end(Buffer.from(result.body ?? "", isBase64Encoded ? "base64" : "utf8"));
  } catch (error) {
    if (error instanceof InvocationTimeout) sendMessage(response, 503, "Service Unavailable");
    else sendMessage(response, 500, "Internal Server Error");
  }
}

export function sendMessage(response: ServerResponse, status: number, message: string): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify({ message }));
}

export function httpEvent(request: IncomingMessage, body: Buffer): APIGatewayProxyEventV2 {
  const url = new URL(request.url ?? "/", "http://localhost");
  const now = new Date();
  const query: Record<string, string> = {};
  for (const [name, value] of url.searchParams) {
    query[name] = query[name] === undefined ? value : `${query[name]},${value}`;
  }
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(",") : value;
  }
  return {
    version: "2.0",
    routeKey: "$default",
    rawPath: url.pathname,
    rawQueryString: url.search.slice(1),
    headers,
    ...(url.searchParams.size > 0 && { queryStringParameters: query }),
    requestContext: {
      accountId: "000000000000",
      apiId: "local",
      domainName: headers["host"] ?? "localhost",
      domainPrefix: "local",
      http: {
        method: request.method ?? "GET",
        path: url.pathname,
        protocol: `HTTP/${request.httpVersion}`,
        sourceIp: (request.socket.remoteAddress ?? "").replace("::ffff:", ""),
        userAgent: headers["user-agent"] ?? "",
      },
      requestId: randomUUID(),
      routeKey: "$default",
      stage: "$default",
      time: now.toUTCString(),
      timeEpoch: now.getTime(),
    },
    ...(body.length > 0 && { body: body.toString("base64") }),
    isBase64Encoded: body.length > 0,
  };
}
