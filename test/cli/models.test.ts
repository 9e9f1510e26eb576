import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { progressLine, RateMeter } from "../../cli/progress.ts";
import { textDisplay } from "../../cli/pull-display.ts";
import { bytesText, countText, durationText } from "../../local/model-store/quantities.ts";
import { eventually } from "../support/eventually.ts";
import { guideFiles } from "../support/hub-models.ts";
import { type HubServer, hubToken, startHub } from "../support/hub-server.ts";

/** `axon models` as a process of its own, against a hub over HTTP. */

const root = join(import.meta.dirname, "..", "..");
const files = guideFiles();
const weights = "model.safetensors";

let hub: HubServer;
let storeDir: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  hub = await startHub();
  storeDir = mkdtempSync(join(tmpdir(), "axon-models-"));
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await hub.close();
  rmSync(storeDir, { recursive: true });
});

interface Result {
  code: number | null;
  stdout: string;
  stderr: string;
}

function start(args: string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [join(root, "cli", "main.ts"), "models", ...args], {
    env: { PATH: "", HF_ENDPOINT: hub.url, AXON_MODELS_DIR: storeDir, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  const output = { stdout: "", stderr: "" };
  child.stdout.on("data", (data) => {
    output.stdout += data;
  });
  child.stderr.on("data", (data) => {
    output.stderr += data;
  });
  const ended = once(child, "close").then(([code]): Result => ({ code, ...output }));
  return { child, ended };
}

const axon = (args: string[], env: NodeJS.ProcessEnv = {}) => start(args, env).ended;
const objects = (text: string): unknown[] =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

/** Starts a pull that has got so many bytes of the weights, and gets no more. */
async function halfPulled(args: string[] = []) {
  hub.publish("acme/guide", files);
  hub.fail(weights, { holdAfter: 3_000_000 });
  const pull = start(["pull", "acme/guide", ...args]);
  const part = join(storeDir, ".pulling", "acme--guide", `${weights}.part`);
  await eventually(() => existsSync(part) && statSync(part).size === 3_000_000);
  return { ...pull, part };
}

const ranges = () =>
  hub.requests.filter(({ url }) => url.includes(`${weights}?`)).map(({ range }) => range);

describe("axon models", () => {
  test("pulls, lists, and removes", async () => {
    hub.publish("acme/guide", files, { gated: true });
    const pulled = await axon(["pull", "acme/guide"], { HF_TOKEN: hubToken });
    expect(pulled).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(
        /^acme--guide is ready: 7\.01 MB in .*\nnpm start -- --model acme--guide\n$/,
      ),
    });
    expect(pulled.stderr).toMatch(/^acme\/guide \(commit [0-9a-f]{7}\) as acme--guide\n5 files/);
    expect(pulled.stderr).toMatch(/model\.safetensors 100% .* 7\.01 MB of 7\.01 MB/);
    expect(pulled.stdout + pulled.stderr).not.toContain(hubToken);

    const { stdout: table } = await axon(["list"]);
    expect(table).toMatch(/^name +size +parameters +context +source +pulled/);
    expect(table).toMatch(/\naxon-guide +7\.\d+ MB +3\.48M +1024 +comes with Axon +-\n/);
    expect(table).toMatch(/\nacme--guide +7\.01 MB +3\.48M +1024 +acme\/guide@[0-9a-f]{7} +20/);
    const { stdout: lines } = await axon(["list", "--json"]);
    expect(objects(lines)).toMatchObject([
      { name: "axon-guide", state: "ready" },
      { name: "acme--guide", state: "ready", parameters: 3_476_224, contextTokens: 1024 },
    ]);

    expect(await axon(["rm", "acme--guid"])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("It has: acme--guide."),
    });
    expect(await axon(["rm", "axon-guide", "--yes"])).toMatchObject({ code: 1 });
    expect(await axon(["rm", "acme--guide", "--yes"])).toMatchObject({
      code: 0,
      stdout: "acme--guide is deleted (7.01 MB).\n",
    });
    expect(existsSync(join(storeDir, "acme--guide"))).toBe(false);
  });

  test("tells programs what happens, a line of JSON each", async () => {
    hub.publish("acme/guide", files);
    const { code, stdout, stderr } = await axon(["pull", "acme/guide", "--json"]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    const events = objects(stdout);
    expect(events[0]).toMatchObject({ type: "found", name: "acme--guide" });
    expect(events[1]).toMatchObject({ type: "planned", files: 5, doneBytes: 0 });
    expect(events.at(-1)).toMatchObject({ type: "pulled", name: "acme--guide", unchanged: false });
    const failed = await axon(["pull", "acme/guide@v9", "--json"]);
    expect(failed.code).toBe(1);
    expect(objects(failed.stdout)).toMatchObject([{ type: "failed", code: "not_found" }]);
  });

  test("goes on where it was killed", async () => {
    const { child, ended } = await halfPulled();
    child.kill("SIGKILL");
    await ended;
    const { stdout: table } = await axon(["list"]);
    expect(table).not.toMatch(/\nacme--guide +\d/);
    expect(table).toMatch(
      /\nacme--guide is not complete \(3\.\d+ MB so far\); to go on: axon models pull acme\/guide\n/,
    );
    const { code, stderr } = await axon(["pull", "acme/guide"]);
    expect(code).toBe(0);
    expect(stderr).toMatch(/5 files, 7\.01 MB, 3\.\d+ MB are here already/);
    expect(ranges()).toEqual([undefined, "bytes=3000000-"]);
  });

  test.each([
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)("stops at %s with exit code %i, and keeps what has arrived", async (signal, code) => {
    const { child, ended, part } = await halfPulled();
    // A terminal's Ctrl-C comes twice: to the process, and from the one that has started it.
    child.kill(signal);
    child.kill(signal);
    expect(await ended).toMatchObject({ code, stderr: expect.stringContaining("Pull again") });
    expect(statSync(part).size).toBe(3_000_000);
    expect(await axon(["pull", "acme/guide"])).toMatchObject({ code: 0 });
    expect(ranges()).toEqual([undefined, "bytes=3000000-"]);
  });

  test("tells the second of two pulls of a model who has the first", async () => {
    const { child, ended } = await halfPulled();
    expect(await axon(["pull", "acme/guide"])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`pid ${child.pid}`),
    });
    hub.release();
    expect(await ended).toMatchObject({ code: 0 });
  });

  test("without a network names the host and what to do", async () => {
    const { code, stderr } = await axon(["pull", "acme/guide"], {
      HF_ENDPOINT: "http://127.0.0.1:9",
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/axon: .* 127\.0\.0\.1:9 .*Check the network/);
    expect(stderr).not.toMatch(/\n {4}at /);
  });

  test("says when its folder cannot be used", async () => {
    hub.publish("acme/guide", files);
    const { code, stderr } = await axon(["pull", "acme/guide"], {
      AXON_MODELS_DIR: "/dev/null/models",
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/axon: .*AXON_MODELS_DIR/);
    expect(stderr).not.toMatch(/\n {4}at /);
  });

  test("does not remove or replace what a running group uses", async () => {
    hub.publish("acme/guide", files);
    await axon(["pull", "acme/guide"]);
    // Known by the program that it runs and the model that it was given; it need not compute here.
    const program = join(storeDir, "x", "dataplane", "worker.ts");
    mkdirSync(join(program, ".."), { recursive: true });
    const group = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)", program], {
      env: { AXON_MODEL_DIR: join(storeDir, "acme--guide") },
    });
    children.push(group);
    await once(group, "spawn");
    await eventually(async () => {
      const { code, stderr } = await axon(["rm", "acme--guide", "--yes"]);
      expect({ code, stderr }).toMatchObject({
        code: 1,
        stderr: expect.stringContaining(`pid ${group.pid}`),
      });
      return true;
    });
    group.kill("SIGKILL");
    await once(group, "exit");
    expect(await axon(["rm", "acme--guide", "--yes"])).toMatchObject({ code: 0 });
  });

  test.each([[[]], [["pull"]], [["rm"]], [["list", "x"]], [["pull", "a/b", "c/d"]]])(
    "%j is not understood",
    async (args) => {
      expect(await axon(args)).toMatchObject({
        code: 2,
        stderr: expect.stringContaining("axon models --help"),
      });
    },
  );

  test("npm start takes a model's name, and says which there are", async () => {
    const child = spawn(process.execPath, [join(root, "local", "main.ts"), "--model", "none"], {
      env: { PATH: "", AXON_MODELS_DIR: storeDir },
    });
    let stderr = "";
    child.stderr.on("data", (data) => {
      stderr += data;
    });
    const [code] = await once(child, "close");
    expect(code).toBe(1);
    expect(stderr).toMatch(/"none" is no folder.*axon-guide.*axon models pull/);
  });
});

describe("progress", () => {
  test("is one line of what is known", () => {
    const state = { label: weights, doneBytes: 116e6, sizeBytes: 269e6, bytesPerSecond: 23.1e6 };
    const line = progressLine(state, 100);
    expect(line).toBe(
      "model.safetensors  43% [#############-----------------] 116 MB of 269 MB  23.1 MB/s  0:07 left",
    );
    expect(progressLine(state, 60)).toBe(
      "model.safetensors  43%  116 MB of 269 MB  23.1 MB/s  0:07 le",
    );
    expect(progressLine({ ...state, doneBytes: 268.99e6 }, 100)).toContain(" 99% ");
    expect(progressLine({ ...state, bytesPerSecond: undefined }, 100)).not.toContain("left");
    expect(progressLine({ ...state, doneBytes: 0, sizeBytes: 0 }, 100)).toContain("100%");
  });

  test("has the rate of the last seconds", () => {
    const meter = new RateMeter();
    // A part from an earlier pull says nothing about the network.
    meter.add(1e9, 0);
    expect(meter.rate(100)).toBeUndefined();
    for (let second = 1; second <= 20; second++) meter.add(1e9 + second * 1e6, second * 1_000);
    expect(meter.rate(20_000)).toBeCloseTo(1e6, -3);
    for (let second = 1; second <= 6; second++) meter.add(1.02e9, 20_000 + second * 1_000);
    expect(meter.rate(26_000)).toBe(0);
    meter.add(0, 27_000);
    meter.add(5e6, 28_000);
    expect(meter.rate(28_000)).toBe(5e6);
  });

  test("rewrites a line on a terminal, and writes one now and then elsewhere", () => {
    const shown = (columns: number | undefined) => {
      let text = "";
      let atMs = 0;
      const output = { columns, write: (more: string) => (text += more) };
      const display = textDisplay(output, () => atMs);
      for (let percent = 0; percent <= 100; percent++) {
        atMs = percent * 120;
        display.tell({ type: "progress", file: "a", doneBytes: percent, sizeBytes: 100 });
      }
      display.tell({ type: "retry", why: "h answered 503", afterMs: 2_000 });
      return text;
    };
    const terminal = shown(80).split("\r\x1b[2K");
    expect(terminal).toHaveLength(102);
    expect(terminal.slice(0, -1).join("")).not.toContain("\n");
    expect(terminal.at(-1)).toMatch(/^a 100% .*\nh answered 503; again in 2\.0 s\n$/);
    const lines = shown(undefined).trim().split("\n");
    expect(lines.map((line) => line.slice(0, 6))).toEqual([
      "a   0%",
      "a  42%",
      "a  84%",
      "a 100%",
      "h answ",
    ]);
  });

  test("numbers are short", () => {
    expect([0, 999, 1_000, 999_499, 999_500, 1.5e9].map(bytesText)).toEqual([
      "0 B",
      "999 B",
      "1.00 kB",
      "999 kB",
      "1.00 MB",
      "1.50 GB",
    ]);
    expect(countText(134_515_008)).toBe("135M");
    expect([0, 7.4, 67, 3_599.6, 3_723].map(durationText)).toEqual([
      "0:00",
      "0:07",
      "1:07",
      "1:00:00",
      "1:02:03",
    ]);
  });
});
