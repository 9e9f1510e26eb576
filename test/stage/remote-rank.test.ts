import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { read } from "./reading.ts";
import { dataFolder, interrupt, removeFolder, spawnStage } from "./spawned-stage.ts";

/** A rank as another machine would lend it: `axon worker`, a process that the stage did not start. */

const root = join(import.meta.dirname, "..", "..");
const secret = "a secret of both machines";

let cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.reverse()) await cleanup();
  cleanups = [];
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  return typeof address === "object" ? (address?.port ?? 0) : 0;
}

function lendRank(leader: string): { child: ChildProcess; output: () => string } {
  const model = join(root, "models", "axon-guide");
  const args = ["worker", "--rank", "1", "--leader", leader, "--model", model];
  const child = spawn(join(root, "cli", "axon.mjs"), args, {
    env: { ...process.env, AXON_GROUP_SECRET: secret },
  });
  cleanups.push(() => child.exitCode ?? child.kill("SIGTERM"));
  let output = "";
  child.stderr.on("data", (text) => {
    output += text;
  });
  return { child, output: () => output };
}

test("a rank on another machine joins, is missed when it dies, and joins again", async () => {
  const address = `127.0.0.1:${await freePort()}`;
  const first = lendRank(address);
  await eventually(() => /waits to join/.test(first.output()), 10_000);
  const dataDir = await dataFolder();
  cleanups.push(() => removeFolder(dataDir));
  const env = { AXON_TRANSPORT: "remote", AXON_LISTEN: address, AXON_GROUP_SECRET: secret };
  const stage = await spawnStage(dataDir, { env });
  cleanups.push(() => interrupt(stage));
  expect(first.output()).toContain("has joined the group of 2");
  const client = await stage.client();
  const before = await read(client.chat({ prompt: "What is a rank?" }));
  first.child.kill("SIGTERM");
  expect(await once(first.child, "exit")).toEqual([0, null]);
  const second = lendRank(address);
  const after = await read(client.chat({ prompt: "What is a rank?" }));
  expect(after.text).toBe(before.text);
  expect(second.output()).toContain("has joined the group of 2");
  client.close();
});
