import { readFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { extname, join, resolve, sep } from "node:path";
import { pathOf } from "./gateway-access.ts";
import { sendMessage } from "./gateway-http.ts";

const contentTypes: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".map": "application/json; charset=utf-8",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".woff2": "font/woff2",
};

/**
 * Serves the built page. Files under /assets have a hash of their content in their names and are kept
 * by browsers for good; a path that is no file is a route of the page, which is index.html.
 */
export async function answerPage(
  pageDir: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (request.method !== "GET" && request.method !== "HEAD") {
    return sendMessage(response, 405, "Method Not Allowed");
  }
  const path = decodedPath(request);
  if (path === undefined) return sendMessage(response, 400, "Bad Request");
  const isRoute = extname(path) === "";
  const file = resolve(join(pageDir, isRoute ? "index.html" : path));
  const body = file.startsWith(resolve(pageDir) + sep) ? await contentOf(file) : undefined;
  if (body === undefined) return sendMessage(response, 404, "Not Found");
  response.writeHead(200, {
    "content-type": contentTypes[extname(file)] ?? "application/octet-stream",
    "content-length": body.length,
    "cache-control": path.startsWith("/assets/")
      ? "public, max-age=31536000, immutable"
      : "no-cache",
    "x-content-type-options": "nosniff",
    "content-security-policy": "frame-ancestors 'none'",
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

function decodedPath(request: IncomingMessage): string | undefined {
  try {
    return decodeURIComponent(pathOf(request.url) ?? "");
  } catch {
    return undefined;
  }
}

async function contentOf(file: string): Promise<Buffer | undefined> {
  try {
    return await readFile(file);
  } catch {
    return undefined;
  }
}
