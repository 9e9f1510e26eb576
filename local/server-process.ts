import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { StageError } from "./part.ts";

/** How to run a server that is not ours: Redis or PostgreSQL. */
export interface ServerCommand {
  /** For messages. */
  name: string;
  file: string;
  args: string[];
  env?: NodeJS.ProcessEnv;
  /** The user to run it as, when we are root and it refuses to be. */
  user?: { uid: number; gid: number } | undefined;
  logFile: string;
  stopSignal: NodeJS.Signals;
  /** Whether it answers by now, under this pid. */
  isReady: (pid: number) => Promise<boolean>;
  readyWithinMs: number;
}

export interface ServerProcess {
  pid: number;
  died: Promise<string>;
  stop(): Promise<void>;
}

/** It has this long to stop after its signal; then it is killed. */
const stopWithinMs = 10_000;

/**
 * Starts a server and waits until it answers. It runs in a process group of its own: Ctrl-C at the
 * terminal is for the supervisor, which stops the parts in order.
 * @throws StageError part_failed, with the last lines of its log, when it does not come up.
 */
export async function startServer(command: ServerCommand): Promise<ServerProcess> {
  const { name, file, args, env, user, logFile } = command;
  const log = openSync(logFile, "a");
  const child = spawn(file, args, {
    detached: true,
    stdio: ["ignore", log, log],
    env: { ...process.env, ...env },
    ...user,
  });
  closeSync(log);
  let ended: string | undefined;
  let stopping = false;
  const gone = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("exit", (code, signal) => resolve(`exited with ${signal ?? code}`));
  }).then((reason) => {
    ended = reason;
    return reason;
  });

  const deadline = Date.now() + command.readyWithinMs;
  while (ended === undefined && !(await command.isReady(child.pid ?? 0))) {
    if (Date.now() > deadline) {
      child.kill("SIGKILL");
      ended = `did not answer within ${command.readyWithinMs / 1000} s`;
      break;
    }
    await sleep(10);
  }
  if (ended !== undefined || child.pid === undefined) {
    throw new StageError(
      "part_failed",
      `${name} does not start: it ${ended ?? "has no pid"}. Its log, ${logFile}, ends with:\n${lastLines(logFile)}`,
    );
  }
  return {
    pid: child.pid,
    died: new Promise((resolve) => {
      void gone.then((reason) => {
        if (!stopping) resolve(reason);
      });
    }),
    async stop() {
      stopping = true;
      await endChild(child, command.stopSignal, gone);
    },
  };
}

async function endChild(
  child: ChildProcess,
  signal: NodeJS.Signals,
  gone: Promise<string>,
): Promise<void> {
  child.kill(signal);
  const timer = setTimeout(() => child.kill("SIGKILL"), stopWithinMs);
  await gone;
  clearTimeout(timer);
}

/** The end of a log, for a message. */
export function lastLines(path: string, lines = 8): string {
  try {
    return readFileSync(path, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  } catch {
    return "(no log)";
  }
}
