import type { IncomingHttpHeaders } from "node:http";
import { isIP } from "node:net";

/**
 * Whether a request was meant for this host. A foreign page can make a browser send requests here
 * under its own name, by pointing that name at 127.0.0.1 (DNS rebinding); an address cannot be
 * pointed anywhere, and neither can localhost.
 */
export function isLocalHost({ host }: IncomingHttpHeaders, ownName: string): boolean {
  if (host === undefined || !URL.canParse(`http://${host}`)) return false;
  const { hostname } = new URL(`http://${host}`);
  const bare = hostname.replace(/^\[|\]$/g, "");
  return bare === "localhost" || bare === ownName || isIP(bare) !== 0;
}

/** Whether a WebSocket is opened by our own page, or by no page at all. */
export function isOwnOrigin({ origin, host }: IncomingHttpHeaders): boolean {
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === host;
}

/**
 * Whether a page may call with a key of its own: it is one of this machine, or no page calls at all. The
 * development key is no secret, so to any other site it would lend the model.
 */
export function isLocalOrigin({ origin, host }: IncomingHttpHeaders): boolean {
  if (isOwnOrigin({ origin, host })) return true;
  if (origin === undefined || !URL.canParse(origin)) return false;
  const { hostname } = new URL(origin);
  return hostname === "localhost" || hostname === "[::1]" || /^127\.[\d.]+$/.test(hostname);
}

/** The path of a request, still encoded; undefined when what was asked for is no URL. */
export function pathOf(url: string | undefined): string | undefined {
  if (url === undefined || !URL.canParse(url, "http://localhost")) return undefined;
  return new URL(url, "http://localhost").pathname;
}

/** The host of a URL for what listens on `host`: the loopback address where that is every address. */
export function urlHost(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}
