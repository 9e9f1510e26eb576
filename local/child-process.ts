import { type ChildProcess, fork } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { z } from "zod";
import { StageError } from "./part.ts";
import { compileCacheDir, root } from "./paths.ts";
import { lastLines } from "./server-process.ts";

export interface ChildCommand {
  /** For messages. */
  name: string;
  /** The program. */
  script: URL;
  env: NodeJS.ProcessEnv;
  logFile: string;
  readyWithinMs: number;
  /** It has this long to end after SIGTERM. */
  stopWithinMs: number;
  /** Gives up while it starts. */
  signal?: AbortSignal;
  /** Hears what it says over IPC. */
  heard?: (message: unknown, child: Pick<RunningChild, "tell">) => void;
}

export interface RunningChild {
  pid: number;
  /** What it said with its "ready". */
  details: Record<string, unknown>;
  died: Promise<string>;
  /** One that cannot be reached any more is not told. */
  tell(message: string | object): void;
  stop(): Promise<void>;
}

const readySchema = z.looseObject({ type: z.literal("ready") });

/**
 * There are several processes on a laptop, idle most of the time: less room for young objects (V8
 * keeps up to 48 MB a process) and fewer pools of the allocator cost little and save a third of the
 * memory together with compiled code that is kept from one start to the next.
 */
const nodeFlags = ["--max-semi-space-size=4"];
const leanEnvironment = { MALLOC_ARENA_MAX: "2", NODE_COMPILE_CACHE: compileCacheDir };

/**
 * Starts a process of ours and waits until it says over IPC that it is ready. It ends by itself when
 * this process is gone. It runs in a process group of its own, so Ctrl-C does not reach it.
 * @throws StageError part_failed, with the last lines of its log.
 */
export async function startChild(command: ChildCommand): Promise<RunningChild> {
  const { name, script, env, logFile } = command;
  const log = openSync(logFile, "a");
  const child = fork(script, {
    cwd: root,
    env: { ...leanEnvironment, ...env },
    execArgv: nodeFlags,
    detached: true,
    stdio: ["ignore", log, log, "ipc"],
  });
  closeSync(log);
  let stopping = false;
  const gone = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(`exited with ${signal ?? code}`));
  });
  const tell = (message: string | object): void => {
    if (child.connected) child.send(message, () => {});
  };
  child.on("message", (message) => command.heard?.(message, { tell }));
  const details = await readiness(child, gone, command).catch(async (cause: Error) => {
    child.kill("SIGKILL");
    await gone;
    throw new StageError(
      "part_failed",
      `The ${name} does not start: it ${cause.message}. Its log, ${logFile}, ends with:\n${lastLines(logFile)}`,
      cause,
    );
  });
  return {
    pid: child.pid ?? 0,
    details,
    died: new Promise((resolve) => {
      void gone.then((reason) => {
        if (!stopping) resolve(reason);
      });
    }),
    tell,
    async stop() {
      stopping = true;
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), command.stopWithinMs);
      await gone;
      clearTimeout(timer);
    },
  };
}

function readiness(
  child: ChildProcess,
  gone: Promise<string>,
  { readyWithinMs: withinMs, signal }: ChildCommand,
): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`was not ready within ${withinMs / 1_000} s`)),
      withinMs,
    );
    const giveUp = () => reject(new Error("is not wanted any more"));
    if (signal?.aborted) giveUp();
    signal?.addEventListener("abort", giveUp, { once: true });
    void gone.then((reason) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", giveUp);
      reject(new Error(reason));
    });
    child.on("message", (message) => {
      const ready = readySchema.safeParse(message);
      if (!ready.success) return;
      clearTimeout(timer);
      resolve(ready.data);
    });
  });
}
