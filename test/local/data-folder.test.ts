import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type DataFolder, openDataFolder } from "../../local/data-folder.ts";
import { identify, type LivingProcess } from "../../local/process-table.ts";
import { eventually } from "../support/eventually.ts";

let path: string;
const children: ChildProcess[] = [];
const opened: DataFolder[] = [];

beforeEach(() => {
  path = mkdtempSync(join(tmpdir(), "axon-data-"));
});
afterEach(() => {
  for (const folder of opened.splice(0)) folder.release();
  for (const child of children.splice(0)) child.kill("SIGKILL");
  rmSync(path, { recursive: true });
});

async function open(): Promise<DataFolder> {
  const folder = await openDataFolder(path);
  opened.push(folder);
  return folder;
}

/** A process that does nothing, and who it is. */
async function bystander(
  args: string[] = [],
): Promise<{ child: ChildProcess; who: LivingProcess }> {
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)", ...args]);
  children.push(child);
  const { pid } = child;
  if (pid === undefined) throw new Error("no pid");
  const who = await eventually(() => {
    const found = identify(pid);
    return found?.command.includes("setInterval") ? found : undefined;
  });
  return { child, who };
}

test("a second stage on the same data is refused, and told who has it", async () => {
  await open();
  await expect(openDataFolder(path)).rejects.toMatchObject({
    code: "data_in_use",
    message: expect.stringContaining(`pid ${process.pid}`),
  });
  opened.pop()?.release();
  await open();
});

test("of many that start at once, one gets the folder", async () => {
  const results = await Promise.allSettled(Array.from({ length: 8 }, () => open()));
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
});

test.each([
  ["a dead process", async () => ({ pid: 2 ** 22 - 1, startedAt: "1", command: "node" })],
  [
    "a process that has got the pid of a dead one",
    async () => ({ ...(await bystander()).who, startedAt: "1" }),
  ],
])("a lock of %s is stale", async (_whose, holder) => {
  writeFileSync(join(path, "lock"), JSON.stringify(await holder()));
  await open();
  expect(JSON.parse(readFileSync(join(path, "lock"), "utf8"))).toMatchObject({ pid: process.pid });
});

test("a lock that was half written is stale", async () => {
  writeFileSync(join(path, "lock"), '{"pid":');
  await expect(open()).resolves.toBeDefined();
});

test("what a killed stage has left running is ended", async () => {
  const { child, who } = await bystander();
  const ended = once(child, "exit");
  writeFileSync(join(path, "processes.json"), JSON.stringify([who]));
  await open();
  expect((await ended)[1]).toBe("SIGINT");
  expect(existsSync(join(path, "processes.json"))).toBe(false);
});

test("a process that ignores the signal is killed", async () => {
  const child = spawn(process.execPath, [
    "-e",
    "process.on('SIGINT', () => {}); console.log('up'); setInterval(() => {}, 1000)",
  ]);
  children.push(child);
  await once(child.stdout, "data");
  const ended = once(child, "exit");
  const who = identify(child.pid ?? 0);
  writeFileSync(join(path, "processes.json"), JSON.stringify([who]));
  await open();
  expect((await ended)[1]).toBe("SIGKILL");
}, 15_000);

test("a process that only has the pid of one of ours is left alone", async () => {
  const { child, who } = await bystander();
  const others = [
    { ...who, startedAt: "1" },
    { ...who, command: "redis-server" },
  ];
  writeFileSync(join(path, "processes.json"), JSON.stringify(others));
  await open();
  expect(child.exitCode).toBeNull();
  expect(identify(who.pid)?.startedAt).toBe(who.startedAt);
});

test("processes are recorded with who they are, those that are gone are not", async () => {
  const folder = await open();
  const { who } = await bystander();
  folder.recordProcesses([who.pid, 2 ** 22 - 1]);
  expect(JSON.parse(readFileSync(join(path, "processes.json"), "utf8"))).toEqual([who]);
});

test("a folder that cannot be written is an error that says so", async () => {
  const file = join(path, "file");
  writeFileSync(file, "");
  await expect(openDataFolder(join(file, "data"))).rejects.toMatchObject({
    code: "data_folder_unusable",
    message: expect.stringContaining("--data DIR"),
  });
});
