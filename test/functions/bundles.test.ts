import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { processId } from "../../events/ids.ts";
import { relayConnectionId } from "../../events/redis-keys.ts";
import { eventually } from "../support/eventually.ts";
import { traceCollector } from "../support/trace-collector.ts";
import { bundle, bundleAlone, functionNames } from "./bundle.ts";
import { bundlesFolder, LambdaProcess } from "./lambda-process.ts";
import { socketEvent } from "./stage.ts";

/** Of what a function loads when it starts. */
const mostBytes = 500_000;

let folder: string;
let bundles: Awaited<ReturnType<typeof bundle>>;
beforeAll(async () => {
  mkdirSync(bundlesFolder, { recursive: true });
  folder = mkdtempSync(join(bundlesFolder, "all-"));
  bundles = await bundle(functionNames, folder);
  return () => rmSync(folder, { recursive: true });
});

describe("the bundle of each function", () => {
  test("exists", () => {
    expect([...bundles.keys()].sort()).toEqual([...functionNames].sort());
    expect(functionNames).toContain("migrate");
  });

  test.each(functionNames)("%s: is small, and what is in it is known", (name) => {
    const { bytes = Number.NaN, from = new Map<string, number>() } = bundles.get(name) ?? {};
    const largest = [...from].sort(([, a], [, b]) => b - a).slice(0, 5);
    const told = largest.map(([source, size]) => `${source} ${Math.round(size / 1_000)}`);
    expect(bytes, `kB: ${told.join(", ")}`).toBeLessThanOrEqual(mostBytes);
    // Messages in every language that zod knows would be 350 kB.
    expect(from.get("zod") ?? 0).toBeLessThan(130_000);
  });

  test("holds no client that its function does not use", () => {
    const packagesOf = (name: string) => [...(bundles.get(name)?.from.keys() ?? [])];
    expect(packagesOf("migrate")).not.toContain("ioredis");
    expect(packagesOf("unrouted")).not.toContain("ioredis");
    expect(packagesOf("manifest")).not.toContain("ioredis");
    const loadsLater = (name: string) => bundles.get(name)?.later ?? [];
    expect(loadsLater("chat")).toContain("pg");
    expect(loadsLater("connect")).not.toContain("pg");
    // As many of it run as answers are read: each would hold a connection to the database.
    expect(loadsLater("completions")).not.toContain("pg");
    const authenticating = ["connect", "history", "completions"];
    for (const name of functionNames.filter((one) => !authenticating.includes(one))) {
      expect(packagesOf(name), name).not.toContain("jose");
    }
  });

  test("has apart what traces need and the client of PostgreSQL, which are loaded when they are used", async () => {
    for (const [name, { from }] of bundles) {
      const theirs = [...from.keys()].filter((source) => /^(@opentelemetry\/|pg$)/.test(source));
      expect(theirs, name).toEqual([]);
    }
    const { bytes, later } = await bundleAlone("chat", join(folder, "alone"));
    expect(bytes).toBeLessThanOrEqual(mostBytes);
    const theirs = [...later].filter(([source]) => source.startsWith("@opentelemetry/"));
    const theirBytes = theirs.reduce((sum, [, one]) => sum + one, 0);
    expect(theirBytes).toBeGreaterThan(10_000);
    expect(theirBytes).toBeLessThan(40_000);
    expect(later.get("pg")).toBeGreaterThan(10_000);
  });

  test("traces, where there is somewhere to send spans to", async () => {
    const collector = await traceCollector();
    const env = {
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
      AWS_LAMBDA_FUNCTION_NAME: "unrouted",
    };
    const endpoint = { AXON_CONNECTIONS_ENDPOINT: "http://127.0.0.1:1" };
    const alone = join(folder, "alone");
    await bundleAlone("unrouted", alone);
    const lambda = await LambdaProcess.start(join(alone, "unrouted.mjs"), { ...env, ...endpoint });
    // To a relay's own door: what it has to say is in the result.
    const connectionId = relayConnectionId(processId("relay"), "a");
    const invoke = () => lambda.invoke(socketEvent(connectionId, { action: "sing" }));
    // In time before an invocation has ended: afterwards it may be frozen. On a busy machine the first may
    // leave its span to the next.
    const spans = await eventually(async () => {
      await invoke();
      return collector.spans().length > 0 && collector.spans();
    });
    expect(spans[0]).toMatchObject({
      ...{ service: "axon-functions", name: "$default" },
      attributes: { "axon.error.code": "unknown_action" },
    });
    await lambda.stop();
    await collector.stop();
  });

  test("loads by itself, without any environment", async () => {
    const initMs: string[] = [];
    for (const name of functionNames) {
      const lambda = await LambdaProcess.start(join(folder, `${name}.mjs`), {});
      initMs.push(`${name} ${lambda.initMs.toFixed(0)}`);
      await lambda.stop();
    }
    console.info(`ms to load, each in a new process: ${initMs.join(", ")}`);
  });

  test("tells of a failure by the lines of the source", async () => {
    const lambda = await LambdaProcess.start(join(folder, "sweep.mjs"), {});
    const failure = await lambda.invoke({}).catch((error: unknown) => error);
    expect(String((failure as Error).stack)).toMatch(/functions\/lib\/provider\.ts:\d+/);
    expect(readFileSync(join(folder, "sweep.mjs.map"), "utf8")).toContain("provider.ts");
    await lambda.stop();
  });
});
