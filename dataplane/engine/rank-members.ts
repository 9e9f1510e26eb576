import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { EngineError, toEngineError } from "./engine-error.ts";
import type { RankThreadOptions, RankZeroOptions } from "./rank-messages.ts";

/** A rank as the leader's main thread holds it: a thread or a process that can end. */
export interface RankMember {
  pid: number;
  isAlive(): boolean;
  /** Resolves when it has ended, however it came to it. */
  ended: Promise<void>;
  kill(): void;
}

/** So much of what a process last said on stderr goes into the error when it ends. */
const lastWordsLength = 2_000;

/** Starts a rank's thread. `onEnd` is called once when it ends, with the reason. */
export function startRankThread(
  rank: number,
  program: URL,
  workerData: RankZeroOptions | RankThreadOptions,
  onEnd: (error: EngineError) => void,
): { member: RankMember; worker: Worker } {
  const worker = new Worker(program, { workerData });
  let isAlive = true;
  let reason: EngineError | undefined;
  worker.on("error", (error) => {
    reason = toEngineError(error);
  });
  const ended = new Promise<void>((resolve) => {
    worker.on("exit", () => {
      isAlive = false;
      resolve();
      onEnd(reason ?? new EngineError("rank_lost", `The thread of rank ${rank} has ended.`));
    });
  });
  const kill = () => void worker.terminate();
  return { member: { pid: process.pid, isAlive: () => isAlive, ended, kill }, worker };
}

/** Starts a rank's process, which joins the leader at `port`. `onEnd` is called once. */
export function startRankProcess(
  rank: number,
  { host, modelDir, ranks, epoch, secret }: RankZeroOptions,
  port: number,
  onEnd: (error: EngineError) => void,
): RankMember {
  const settings = { rank, leader: `${host}:${port}`, model: modelDir, tp: ranks, epoch };
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, `${value}`]);
  const program = fileURLToPath(new URL("./rank.ts", import.meta.url));
  const child = spawn(process.execPath, [program, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    // In a process group of its own: Ctrl-C on the leader's terminal is for the leader, which may
    // have turns to finish. A rank ends with its leader anyway.
    detached: true,
    env: { ...process.env, AXON_GROUP_SECRET: secret },
  });
  let lastWords = "";
  child.stderr.on("data", (text: Buffer) => {
    lastWords = `${lastWords}${text}`.slice(-lastWordsLength);
  });
  child.on("error", (cause) => {
    onEnd(new EngineError("forming_failed", `Rank ${rank} cannot start.`, { cause }));
  });
  child.on("close", (code, signal) => {
    const message = `Rank ${rank} has ended (${signal ?? `code ${code}`}). ${lastWords}`.trim();
    onEnd(new EngineError("rank_lost", message));
  });
  return {
    pid: child.pid ?? 0,
    isAlive: () => child.pid !== undefined && child.exitCode === null && child.signalCode === null,
    ended: child.pid === undefined ? Promise.resolve() : once(child, "exit").then(() => {}),
    kill: () => void child.kill("SIGKILL"),
  };
}
