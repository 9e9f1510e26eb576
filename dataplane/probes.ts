import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/** What Kubernetes asks. Each answers with why not; with undefined where all is well. */
export interface Probes {
  /** Would a restart help? */
  live(): string | undefined;
  /** Does it do its work now? */
  ready(): string | undefined;
  /** What is counted, in Prometheus's text format; undefined while there is nothing to tell yet. */
  metrics(): string | undefined;
}

interface Answer {
  status: number;
  body: string;
  format?: string;
}

export interface ProbeServer {
  url: string;
  close(): void;
}

/** Serves GET /live and GET /ready: 200, or 503 with the reason. And GET /metrics. */
export async function serveProbes(
  { host, port }: { host: string; port: number },
  probes: Probes,
): Promise<ProbeServer> {
  const probe = (reason: string | undefined): Answer => ({
    status: reason === undefined ? 200 : 503,
    body: `${reason ?? "ok"}\n`,
  });
  const answers: Record<string, () => Answer> = {
    "/live": () => probe(probes.live()),
    "/ready": () => probe(probes.ready()),
    "/metrics": () => {
      const body = probes.metrics();
      return body === undefined
        ? { status: 503, body: "it starts\n" }
        : { status: 200, body, format: "version=0.0.4; " };
    },
  };
  const server = createServer((request, response) => {
    const answer = request.method === "GET" ? answers[request.url ?? ""] : undefined;
    if (answer === undefined) {
      response.writeHead(404).end();
      return;
    }
    const { status, body, format = "" } = answer();
    response.writeHead(status, { "content-type": `text/plain; ${format}charset=utf-8` }).end(body);
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
