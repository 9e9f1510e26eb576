import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { bundle, functionNames } from "./bundle.ts";
import { bundlesFolder, LambdaProcess } from "./lambda-process.ts";

/** Nobody waits for `manage`, which has the clients of every store and of the cluster in it. */
const mostBytes = (name: string) => (name === "manage" ? 600_000 : 500_000);

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
    expect(bytes, `kB: ${told.join(", ")}`).toBeLessThanOrEqual(mostBytes(name));
    // Messages in every language that zod knows would be 350 kB.
    expect(from.get("zod") ?? 0).toBeLessThan(130_000);
  });

  test("holds no client that its function does not use", () => {
    const packagesOf = (name: string) => [...(bundles.get(name)?.from.keys() ?? [])];
    expect(packagesOf("migrate")).not.toContain("ioredis");
    expect(packagesOf("connect")).not.toContain("pg");
    expect(packagesOf("unrouted")).not.toContain("ioredis");
    expect(packagesOf("ops")).not.toContain("ioredis");
    for (const name of functionNames.filter((one) => one !== "connect" && one !== "history")) {
      expect(packagesOf(name), name).not.toContain("jose");
    }
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
