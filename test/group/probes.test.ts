import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { startRedis } from "../../local/redis.ts";
import { eventually } from "../support/eventually.ts";
import { probe } from "./group-processes.ts";

const relay = join(import.meta.dirname, "..", "..", "dataplane", "relay.ts");

test.skipIf(process.env["REDIS_URL"])(
  "a relay is ready while Redis answers, and lives on without",
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "axon-redis-"));
    const logFile = join(folder, "redis.log");
    const redis = await startRedis({ dataDir: folder, logFile, persistent: false });
    const { pid } = redis;
    if (pid === undefined) throw new Error("Redis is not ours to stop.");
    const signal = (name: NodeJS.Signals) => process.kill(pid, name);
    const child = spawn(process.execPath, [relay], {
      env: {
        PATH: process.env["PATH"],
        REDIS_URL: redis.url,
        AXON_CONNECTIONS_ENDPOINT: "http://127.0.0.1:1",
        AXON_PROBES: "127.0.0.1:0",
        AXON_DRAIN_MS: "100",
        AWS_REGION: "us-east-1",
      },
    });
    onTestFinished(async () => {
      child.kill("SIGKILL");
      signal("SIGCONT");
      await redis.stop();
      rmSync(folder, { recursive: true });
    });
    let output = "";
    child.stdout.on("data", (text) => {
      output += text;
    });
    const url = await eventually(() => /"probes":"(http[^"]+)"/.exec(output)?.[1]);
    await eventually(async () => (await probe(`${url}/ready`)).status === 200);
    signal("SIGSTOP");
    await eventually(async () => (await probe(`${url}/ready`)).status === 503);
    expect(await probe(`${url}/ready`)).toEqual({ status: 503, body: "Redis does not answer" });
    expect((await probe(`${url}/live`)).status).toBe(200);
    signal("SIGCONT");
    await eventually(async () => (await probe(`${url}/ready`)).status === 200);
    const ended = new Promise((resolve) => child.on("exit", resolve));
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
  },
);
