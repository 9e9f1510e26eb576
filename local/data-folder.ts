import {
  accessSync,
  constants,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import { StageError } from "./part.ts";
import { endProcess, identify, isAlive, type LivingProcess } from "./process-table.ts";

/** The stage's data: one folder, used by one stage at a time. */
export interface DataFolder {
  path: string;
  /** A path in the folder. */
  at: (...names: string[]) => string;
  /** The log of a part; a large one from earlier is put aside. */
  logFile: (part: string) => string;
  /** Notes the processes that run, for the start after a kill. */
  recordProcesses(pids: readonly number[]): void;
  /** Writes what the command line and tests find the stage by. */
  announce(stage: unknown): void;
  /** Lets another stage use the folder. */
  release(): void;
}

const processSchema = z.object({
  pid: z.int().positive(),
  startedAt: z.string(),
  command: z.string(),
});
const recordSchema = z.array(processSchema);

const largeLogBytes = 10 * 1024 * 1024;

/**
 * Makes the folder, takes its lock, and ends what an earlier stage has left running after it was
 * killed.
 * @throws StageError data_folder_unusable | data_in_use
 */
export async function openDataFolder(folder: string): Promise<DataFolder> {
  const path = resolve(folder);
  const at = (...names: string[]) => join(path, ...names);
  try {
    mkdirSync(at("logs"), { recursive: true });
    accessSync(path, constants.W_OK | constants.X_OK);
    accessSync(at("logs"), constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new StageError(
      "data_folder_unusable",
      `The data folder ${path} cannot be written. Make it writable, or choose another with --data DIR.`,
      cause,
    );
  }
  const unlock = takeLock(at("lock"));
  await reap(at("processes.json"));
  return {
    path,
    at,
    logFile(part) {
      const file = at("logs", `${part}.log`);
      const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
      if (size > largeLogBytes) renameSync(file, `${file}.old`);
      return file;
    },
    recordProcesses(pids) {
      const living = pids.flatMap((pid) => identify(pid) ?? []);
      writeAtomically(at("processes.json"), living);
    },
    announce: (stage) => writeAtomically(at("stage.json"), stage),
    release() {
      for (const name of ["stage.json", "processes.json"]) rmSync(at(name), { force: true });
      unlock();
    },
  };
}

/** Whoever reads it, and whoever was killed while writing, has the old content or the new. */
export function writeAtomically(path: string, content: unknown): void {
  writeFileSync(`${path}.new`, `${JSON.stringify(content, undefined, 2)}\n`);
  renameSync(`${path}.new`, path);
}

/**
 * Takes the lock: a file with the identity of its holder, which counts for as long as that process
 * lives. A link is made only where there is none, so one of several takers succeeds.
 * @returns a function that gives it back.
 * @throws StageError data_in_use
 */
function takeLock(lock: string): () => void {
  const own = `${lock}.${process.pid}`;
  const identity = identify(process.pid);
  if (identity === undefined) throw new Error("This process is not in /proc.");
  writeFileSync(own, JSON.stringify(identity));
  try {
    for (let attempt = 0; attempt < 10; attempt++) {
      if (tryLink(own, lock)) return () => rmSync(lock, { force: true });
      const holder = holderOf(lock);
      if (holder !== undefined && isAlive(holder)) throw inUse(lock, holder);
      removeStale(lock, `${own}.stale`);
    }
    throw new Error(`The lock ${lock} could not be taken.`);
  } finally {
    rmSync(own, { force: true });
  }
}

function tryLink(own: string, lock: string): boolean {
  try {
    linkSync(own, lock);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/**
 * Moves the lock away before it looks who held it: between a look and a removal another taker could
 * have put its own there. A lock that turns out to be alive is put back.
 */
function removeStale(lock: string, aside: string): void {
  try {
    renameSync(lock, aside);
  } catch {
    return; // Another taker was faster.
  }
  const holder = holderOf(aside);
  if (holder !== undefined && isAlive(holder)) {
    tryLink(aside, lock);
    rmSync(aside, { force: true });
    throw inUse(lock, holder);
  }
  rmSync(aside, { force: true });
}

function holderOf(lock: string): LivingProcess | undefined {
  try {
    return processSchema.parse(JSON.parse(readFileSync(lock, "utf8")));
  } catch {
    return undefined; // A lock that cannot be read is a leftover of a crash.
  }
}

function inUse(lock: string, holder: LivingProcess): StageError {
  return new StageError(
    "data_in_use",
    `Another stage uses this data (pid ${holder.pid}, by ${lock}). Stop it, or give this one ` +
      "data of its own: npm start -- --data DIR, with another PORT.",
  );
}

/** The recorded processes that still run; a pid that now belongs to another is not among them. */
function recordedLiving(record: string): LivingProcess[] {
  try {
    const processes = recordSchema.parse(JSON.parse(readFileSync(record, "utf8")));
    return processes.filter(({ pid, startedAt, command }) => {
      const now = identify(pid);
      return now?.startedAt === startedAt && now.command === command;
    });
  } catch {
    return []; // No stage has run here, or it was killed while it wrote.
  }
}

/** Kills what a stage has started, without asking. The next start finds a folder of a killed stage. */
export function killRecorded(folder: string): void {
  for (const { pid } of recordedLiving(join(resolve(folder), "processes.json"))) {
    if (pid !== process.pid) process.kill(pid, "SIGKILL");
  }
}

async function reap(record: string): Promise<void> {
  const orphans = recordedLiving(record);
  // PostgreSQL reads SIGTERM as "when the last client has left"; SIGINT is soon enough for all.
  await Promise.all(orphans.map((orphan) => endProcess(orphan, "SIGINT")));
  rmSync(record, { force: true });
}
