import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { Checkpoint } from "../../dataplane/engine/checkpoint/checkpoint.ts";
import { listenForRanks, TcpHub } from "../../dataplane/engine/collectives/tcp-hub.ts";
import { startEmbeddedEngine } from "../../dataplane/engine/embedded.ts";
import type { Engine, EngineHealth } from "../../dataplane/engine/engine.ts";
import { encodeSetup } from "../../dataplane/engine/rank-setup.ts";
import { collect, greedy } from "./collect.ts";
import { writeTinyCheckpoint } from "./tiny-checkpoint.ts";

/** Real processes and real signals: a group lives as a whole, or not at all. */

const noticedWithinMs = 3_000;
const rankProgram = fileURLToPath(new URL("../../dataplane/engine/rank.ts", import.meta.url));

async function startTwoRanks(folder: string): Promise<Engine> {
  const engine = await startEmbeddedEngine({
    modelDir: folder,
    ranks: 2,
    transport: "tcp",
    slots: 4,
    tokensPerStep: 16,
  });
  onTestFinished(() => engine.close());
  return engine;
}

function pidOf(health: EngineHealth, rank: number): number {
  const pid = health.ranks[rank]?.pid ?? 0;
  expect(pid).toBeGreaterThan(1);
  return pid;
}

/** A process that has ended may still be listed until its parent takes note of it. */
function isGone(pid: number): boolean {
  try {
    return /^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return true;
  }
}

describe.each(["SIGKILL", "SIGSTOP"] as const)("a rank that gets %s ends the group", (signal) => {
  test("while an answer is running", async () => {
    const engine = await startTwoRanks(writeTinyCheckpoint().folder);
    const failed = new Promise<Error>((resolve) => engine.onFailure(resolve));
    const pid = pidOf(engine.health(), 1);
    let signalledAt = 0;
    const answer = collect(engine, greedy([1, 2, 3], 150), (count) => {
      if (count !== 3) return;
      signalledAt = performance.now();
      process.kill(pid, signal);
    });
    await expect(answer).rejects.toMatchObject({ code: "rank_lost" });
    expect(performance.now() - signalledAt).toBeLessThan(noticedWithinMs);
    expect(await failed).toMatchObject({ code: "rank_lost" });
    expect(engine.health().state).toBe("failed");
    await vi.waitFor(() => expect(isGone(pid)).toBe(true), noticedWithinMs);
    await expect(collect(engine, greedy([1], 1))).rejects.toMatchObject({ code: "rank_lost" });
  });

  test("while it is idle", async () => {
    const engine = await startTwoRanks(writeTinyCheckpoint().folder);
    const failed = new Promise<Error>((resolve) => engine.onFailure(resolve));
    const signalledAt = performance.now();
    process.kill(pidOf(engine.health(), 1), signal);
    expect(await failed).toMatchObject({ code: "rank_lost" });
    expect(performance.now() - signalledAt).toBeLessThan(noticedWithinMs);
  });
});

describe.each(["SIGKILL", "SIGSTOP"] as const)("a leader that gets %s", (signal) => {
  test("leaves no rank behind", async () => {
    const program = fileURLToPath(new URL("./leader-process.ts", import.meta.url));
    const { folder } = writeTinyCheckpoint();
    const leader = spawn(process.execPath, [program, folder], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    onTestFinished(() => void leader.kill("SIGKILL"));
    const [line] = await once(leader.stdout, "data");
    const pid = pidOf(JSON.parse(String(line)), 1);
    expect(isGone(pid)).toBe(false);
    leader.kill(signal);
    await vi.waitFor(() => expect(isGone(pid)).toBe(true), noticedWithinMs);
  });
});

test("closing ends every process, each with code 0 in its own time", async () => {
  const engine = await startTwoRanks(writeTinyCheckpoint().folder);
  const pid = pidOf(engine.health(), 1);
  const startedAt = performance.now();
  await engine.close();
  expect(performance.now() - startedAt).toBeLessThan(900);
  expect(isGone(pid)).toBe(true);
});

describe("ranks on other hosts", () => {
  const secret = "a secret of the group";

  async function freePort(): Promise<number> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    server.close();
    return typeof address === "object" ? (address?.port ?? 0) : 0;
  }

  test("join when they come, and again when the group is formed anew", async () => {
    const { folder } = writeTinyCheckpoint();
    const listen = { host: "127.0.0.1", port: await freePort() };
    const leader = `${listen.host}:${listen.port}`;
    const args = ["--rank", "1", "--leader", leader, "--model", folder, "--rejoin"];
    const rank = spawn(process.execPath, [rankProgram, ...args], {
      env: { ...process.env, AXON_GROUP_SECRET: secret },
    });
    onTestFinished(() => void rank.kill("SIGKILL"));
    const options = { modelDir: folder, ranks: 2, slots: 4, tokensPerStep: 16, listen, secret };
    const answers: unknown[] = [];
    for (const epoch of [1, 2]) {
      const engine = await startEmbeddedEngine({ ...options, transport: "remote", epoch });
      onTestFinished(() => engine.close());
      answers.push(await collect(engine, greedy([1, 2, 3], 20)));
      await engine.close();
    }
    expect(answers[0]).toEqual(answers[1]);
    expect(answers[0]).toMatchObject({ finish: "length" });
    expect(rank.exitCode).toBeNull();
  });

  test("are not waited for without a secret", async () => {
    const { folder: modelDir } = writeTinyCheckpoint();
    const options = { modelDir, ranks: 2, slots: 4, tokensPerStep: 16 };
    const attempt = startEmbeddedEngine({ ...options, transport: "remote" });
    await expect(attempt).rejects.toMatchObject({
      code: "invalid_request",
      message: expect.stringContaining("secret"),
    });
  });
});

describe("the rank program", () => {
  async function runRank(args: string[], secret = "secret") {
    const env = { ...process.env, AXON_GROUP_SECRET: secret };
    const child = spawn(process.execPath, [rankProgram, ...args], { env });
    onTestFinished(() => void child.kill("SIGKILL"));
    let output = "";
    child.stdout.on("data", (text) => {
      output += text;
    });
    child.stderr.on("data", (text) => {
      output += text;
    });
    const [code] = await once(child, "close");
    return { code, output };
  }

  /** A group of two that waits for its rank 1. */
  async function waitingGroup() {
    const { folder } = writeTinyCheckpoint();
    const checkpoint = await Checkpoint.open(folder);
    await checkpoint.close();
    const { fingerprint } = checkpoint;
    const identity = { ranks: 2, epoch: 7, fingerprint, secret: "secret" };
    const entrance = await listenForRanks(identity, { host: "127.0.0.1", port: 0 });
    entrance.complete.catch(() => {});
    onTestFinished(() => entrance.close());
    const args = (changes: Record<string, string> = {}) => {
      const leader = `127.0.0.1:${entrance.port}`;
      const own = { rank: "1", leader, model: folder, tp: "2", epoch: "7", ...changes };
      return Object.entries(own).flatMap(([name, value]) => [`--${name}`, value]);
    };
    return { entrance, args };
  }

  test("explains itself", async () => {
    const { code, output } = await runRank(["--help"]);
    expect([code, output]).toEqual([0, expect.stringContaining("AXON_GROUP_SECRET")]);
  });

  test.each([
    [["--rank", "1"], "--leader is missing"],
    [["--rank", "one", "--leader", "a:1"], '--rank has to be a number, and is "one"'],
    [["--what"], "--what"],
  ])("refuses the arguments %j", async (args, message) => {
    const { code, output } = await runRank(args);
    expect([code, output]).toEqual([2, expect.stringContaining(message)]);
  });

  test("is refused with another secret, another model, another epoch", async () => {
    const { args } = await waitingGroup();
    const other = writeTinyCheckpoint({ seed: 2 }).folder;
    const outcomes = await Promise.all([
      runRank(args(), "guess"),
      runRank(args({ model: other })),
      runRank(args({ epoch: "6" })),
    ]);
    expect(outcomes).toMatchObject([
      { code: 3, output: expect.stringContaining("secret differs") },
      { code: 3, output: expect.stringContaining("model differs") },
      { code: 3, output: expect.stringContaining("epoch differs") },
    ]);
  });

  test("ends with a message where there is no leader, and when it is closed", async () => {
    const { entrance, args } = await waitingGroup();
    const running = runRank(args());
    const hub = new TcpHub(await entrance.complete, () => {});
    await hub.broadcast(encodeSetup({ weights: "f32", rows: 1, pages: 1 }));
    await hub.allReduce(new Float32Array(1));
    hub.close();
    expect((await running).code).toBe(0);
    const { code, output } = await runRank(args());
    expect([code, output]).toEqual([4, expect.stringContaining("There is no leader")]);
  });
});
