import type { IncomingMessage, ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { apiCors } from "../cluster/api-cors.ts";
import type { StreamingHandler } from "../functions/lib/streamed-http.ts";
import { isLocalOrigin } from "./gateway-access.ts";
import { readBody } from "./gateway-callbacks.ts";
import { httpEvent, sendMessage } from "./gateway-http.ts";
import { invoke } from "./lambda-context.ts";

/** Lambda's own limit for a request to a function's URL. */
const maxBodyBytes = 6 * 1024 * 1024;
/** The longest that a function may run. */
const timeoutMs = 900_000;

/**
 * What the URL of a function with response streaming does: the same event and the same headers for pages of
 * other sites; status and headers first, then the body as it comes, no faster than it is taken. Beyond it,
 * the function hears when its client has gone, and pages of other machines are refused.
 */
export async function answerStreamed(
  handler: StreamingHandler,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (!isLocalOrigin(request.headers)) return sendMessage(response, 403, "Forbidden");
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  for (const [name, value] of Object.entries(corsHeaders(request))) response.setHeader(name, value);
  if (request.method === "OPTIONS" && request.headers.origin !== undefined) {
    response.writeHead(200).end();
    return;
  }
  const payload = await readBody(request, maxBodyBytes);
  if (payload === undefined) return sendMessage(response, 413, "Request Too Long");
  try {
    const { statusCode, headers, body } = await invoke(
      "completions",
      (event, context) => handler(event, { ...context, clientGone: gone.signal }),
      httpEvent(request, payload),
      timeoutMs,
    );
    response.writeHead(statusCode, headers);
    // A client waits for the headers, also where the first words take long.
    response.flushHeaders();
    if (typeof body === "string") response.end(body);
    else await pipeline(body, response);
  } catch {
    if (gone.signal.aborted) return;
    if (response.headersSent) response.destroy();
    else sendMessage(response, 502, "Internal Server Error");
  }
}

function corsHeaders({ headers, method }: IncomingMessage): Record<string, string> {
  if (headers.origin === undefined) return {};
  const own = {
    "access-control-allow-origin": apiCors.allowOrigins.join(),
    "access-control-expose-headers": apiCors.exposeHeaders.join(),
  };
  if (method !== "OPTIONS") return own;
  return {
    ...own,
    "access-control-allow-methods": apiCors.allowMethods.join(),
    "access-control-allow-headers": apiCors.allowHeaders.join(),
    "access-control-max-age": String(apiCors.maxAgeSeconds),
  };
}
