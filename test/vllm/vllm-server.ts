import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Server } from "../../dataplane/openai/server.ts";
import { freePort } from "../../local/part.ts";
import { bundledModelDir } from "../engine/engine.contract.ts";
import { eventually } from "../support/eventually.ts";
import { vllmCommand, vllmDir } from "./install.ts";

/** How long vLLM may take to start; on two busy cores it was minutes. */
export const startMs = 600_000;

/** A real vLLM server of the bundled model. */
export interface VllmServer {
  url: string;
  /** Requests that it runs or holds, by its metrics. */
  running(): Promise<number>;
  /** kill -9 of the server; its ranks end with it. */
  kill(): Promise<void>;
  start(): Promise<void>;
}

export async function startVllm(): Promise<VllmServer> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const server = new Server({ url });
  let child: ChildProcess | undefined;
  const start = async () => {
    child = spawnVllm(port);
    const gone = new Promise<never>((_, reject) => {
      child?.once("exit", (code, signal) => {
        reject(new Error(`vLLM ended with ${signal ?? code}: see ${logFile}`));
      });
    });
    gone.catch(() => {});
    await Promise.race([eventually(() => isWell(server), startMs), gone]);
    // The first step takes as long as some hundred later ones.
    const body = { model: "axon-guide", prompt: [5], max_tokens: 2 };
    await Promise.race([server.postJson("/v1/completions", body, startMs), gone]);
  };
  await start();
  return {
    ...{ url, start },
    async running() {
      const text = await server.getText("/metrics");
      const counts = text.matchAll(/^vllm:num_requests_(?:running|waiting)\{.*\} (\S+)$/gm);
      return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
    },
    async kill() {
      const { pid } = child ?? {};
      if (child === undefined || pid === undefined || child.exitCode !== null) return;
      const ended = new Promise((resolve) => child?.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
      // Its ranks notice; what does not goes by force, with the process group.
      await eventually(() => !hasGroup(pid), 5_000).catch(() => process.kill(-pid, "SIGKILL"));
    },
  };
}

const words = (text: string) => text.split(" ").filter((word) => word !== "");

/** The CPU build over two ranks; a GPU takes other words. */
const defaultArgs = "--tensor-parallel-size 2 --dtype float32 --enforce-eager";

/** The words of a command for a vLLM that is here already. */
export const ownVllm =
  process.env["AXON_VLLM_COMMAND"] === undefined
    ? undefined
    : words(process.env["AXON_VLLM_COMMAND"]);

const logFile = join(vllmDir, "vllm.log");

function spawnVllm(port: number): ChildProcess {
  mkdirSync(vllmDir, { recursive: true });
  const log = openSync(logFile, "a");
  const [file = vllmCommand, ...before] = ownVllm ?? [];
  const args = [
    ...[...before, "serve", bundledModelDir, "--served-model-name", "axon-guide"],
    ...["--host", "127.0.0.1", "--port", String(port), "--max-num-seqs", "16"],
    ...words(process.env["AXON_VLLM_ARGS"] ?? defaultArgs),
  ];
  const child = spawn(file, args, {
    cwd: vllmDir,
    detached: true,
    stdio: ["ignore", log, log],
    env: {
      ...process.env,
      ...{ HF_HUB_OFFLINE: "1", VLLM_NO_USAGE_STATS: "1", VLLM_CACHE_ROOT: join(vllmDir, "cache") },
      VLLM_CPU_KVCACHE_SPACE: "1",
      // A core a rank; by itself it wants a NUMA node a rank.
      VLLM_CPU_OMP_THREADS_BIND: availableParallelism() > 1 ? "0|1" : "0|0",
    },
  });
  closeSync(log);
  return child;
}

async function isWell(server: Server): Promise<boolean> {
  await server.getText("/health");
  return true;
}

function hasGroup(pid: number): boolean {
  try {
    return process.kill(-pid, 0);
  } catch {
    return false;
  }
}
