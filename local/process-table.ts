import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** A process and no other: a pid is used again, a pid with its start time is not. */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks since the host started. */
  startedAt: string;
}

export interface LivingProcess extends ProcessIdentity {
  /** Its command line, by spaces. */
  command: string;
}

/** Who runs under a pid now; a zombie is nobody. Needs Linux's /proc. */
export function identify(pid: number): LivingProcess | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may hold spaces; what follows it starts with the third field.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const startedAt = fields[19];
    if (startedAt === undefined || fields[0] === "Z") return undefined;
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
    return { pid, startedAt, command };
  } catch {
    return undefined;
  }
}

export function isAlive({ pid, startedAt }: ProcessIdentity): boolean {
  return identify(pid)?.startedAt === startedAt;
}

/** Ends a process that is not our child: by `signal`, and after `withinMs` by force. */
export async function endProcess(
  identity: ProcessIdentity,
  signal: NodeJS.Signals,
  withinMs = 5_000,
): Promise<void> {
  const forceAt = Date.now() + withinMs;
  let next: NodeJS.Signals | undefined = signal;
  while (isAlive(identity)) {
    if (next !== undefined) send(identity.pid, next);
    next = Date.now() > forceAt ? "SIGKILL" : undefined;
    await sleep(20);
  }
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended between the look and the signal.
  }
}
