import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { identify, isAlive, type LivingProcess } from "./process-table.ts";

const holderSchema = z.object({
  pid: z.int().positive(),
  startedAt: z.string(),
  command: z.string(),
});

/** What became of a try for a lock: it is ours until it is released, or another process has it. */
export type LockResult = { release: () => void } | { holder: LivingProcess };

/**
 * Takes the lock `path`: a file with the identity of its holder, which counts for as long as that
 * process lives. A link is made only where there is none, so one of several takers succeeds.
 */
export function takeLockFile(path: string): LockResult {
  const identity = identify(process.pid);
  if (identity === undefined) throw new Error("This process is not in /proc.");
  const own = `${path}.${process.pid}`;
  writeFileSync(own, JSON.stringify(identity));
  try {
    for (let attempt = 0; attempt < 10; attempt++) {
      if (tryLink(own, path)) return { release: () => rmSync(path, { force: true }) };
      const holder = livingHolder(path) ?? removeStale(path, `${own}.stale`);
      if (holder !== undefined) return { holder };
    }
    throw new Error(`The lock ${path} could not be taken.`);
  } finally {
    rmSync(own, { force: true });
  }
}

function tryLink(own: string, path: string): boolean {
  try {
    linkSync(own, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/**
 * Moves the lock away before it looks who held it: between a look and a removal another taker could
 * have put its own there. A lock that turns out to be alive is put back, and its holder returned.
 */
function removeStale(path: string, aside: string): LivingProcess | undefined {
  try {
    renameSync(path, aside);
  } catch {
    return undefined; // Another taker was faster.
  }
  const holder = livingHolder(aside);
  if (holder !== undefined) tryLink(aside, path);
  rmSync(aside, { force: true });
  return holder;
}

function livingHolder(path: string): LivingProcess | undefined {
  try {
    const holder = holderSchema.parse(JSON.parse(readFileSync(path, "utf8")));
    return isAlive(holder) ? holder : undefined;
  } catch {
    return undefined; // A lock that cannot be read is a leftover of a crash.
  }
}
