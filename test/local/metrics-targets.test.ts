import { expect, onTestFinished, test } from "vitest";
import { serveTargets } from "../../local/metrics-targets.ts";
import type { StagePart } from "../../local/roster.ts";

test("Prometheus is told of the parts that have metrics, as they are now", async () => {
  let parts: StagePart[] = [{ name: "redis", address: "redis://127.0.0.1:1", pid: 1 }];
  const { url, stop } = await serveTargets(0, () => parts);
  onTestFinished(stop);
  const targets = async () => (await fetch(url)).json();
  expect(await targets()).toEqual([]);
  parts = [...parts, { name: "relay", address: "r", pid: 2, metricsUrl: "http://127.0.0.1:4711" }];
  expect(await targets()).toEqual([{ targets: ["127.0.0.1:4711"], labels: { part: "relay" } }]);
  expect((await fetch(new URL("/", url))).status).toBe(404);
});

test("a port that is taken is named, with the variable that chooses another", async () => {
  const { url, stop } = await serveTargets(0, () => []);
  onTestFinished(stop);
  const port = Number(new URL(url).port);
  await expect(serveTargets(port, () => [])).rejects.toThrow(
    /Port \d+ is in use.*AXON_METRICS_PORT=\d+ npm start/,
  );
});
