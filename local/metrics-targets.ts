import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { listenError } from "./part.ts";
import type { StagePart } from "./roster.ts";

/**
 * Tells a Prometheus on this machine where the stage's metrics are, by its HTTP service discovery: each process
 * serves its own at a port that nobody knows before it has started.
 * Format: https://prometheus.io/docs/prometheus/latest/http_sd/
 * @throws StageError port_in_use
 */
export async function serveTargets(
  port: number,
  parts: () => readonly StagePart[],
): Promise<{ url: string; stop(): Promise<void> }> {
  const server = createServer((request, response) => {
    if (request.method !== "GET" || request.url !== "/targets") {
      response.writeHead(404).end();
      return;
    }
    const targets = parts().flatMap(({ name, metricsUrl }) =>
      metricsUrl === undefined
        ? []
        : [{ targets: [new URL(metricsUrl).host], labels: { part: name } }],
    );
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(targets));
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(listenError(error, port, "AXON_METRICS_PORT")));
    server.listen(port, "127.0.0.1", resolve);
  });
  const { port: actual } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${actual}/targets`,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}
