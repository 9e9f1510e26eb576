import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/** What Kubernetes asks. Each answers with why not; with undefined where all is well. */
export interface Probes {
  /** Would a restart help? */
  live(): string | undefined;
  /** Does it do its work now? */
  ready(): string | undefined;
}

export interface ProbeServer {
  url: string;
  close(): void;
}

/** Serves GET /live and GET /ready: 200, or 503 with the reason. */
export async function serveProbes(
  { host, port }: { host: string; port: number },
  probes: Probes,
): Promise<ProbeServer> {
  const server = createServer((request, response) => {
    const isKnown = request.url === "/live" || request.url === "/ready";
    if (!isKnown || request.method !== "GET") {
      response.writeHead(404).end();
      return;
    }
    const reason = request.url === "/live" ? probes.live() : probes.ready();
    const headers = { "content-type": "text/plain; charset=utf-8" };
    response.writeHead(reason === undefined ? 200 : 503, headers).end(`${reason ?? "ok"}\n`);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  const { port: actual } = server.address() as AddressInfo;
  return {
    url: `http://${host.includes(":") ? `[${host}]` : host}:${actual}`,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
