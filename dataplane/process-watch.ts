import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Sees the engine's processes on this node, and when one of them is gone.
 *
 * The containers of a follower's pod share one process namespace, so /proc shows vLLM's processes to a
 * sidecar that is not root: the server (`vllm serve … --headless`) and one `VLLM::Worker_…` a GPU. Nothing
 * else tells: a headless server listens nowhere, and NCCL waits for a dead peer for ten minutes.
 */
export class ProcessWatch {
  readonly #pattern: RegExp;
  readonly #proc: string;
  /** Processes that fitted at the last look: one that is about to become another program fits only once. */
  #candidates = new Set<number>();
  readonly #known = new Map<number, string>();

  /** @param pattern what the command line of a process looks like that has to live */
  constructor(pattern: RegExp, proc = "/proc") {
    this.#pattern = pattern;
    this.#proc = proc;
  }

  /**
   * Looks once.
   * @param isSettled the engine has started: while it does, its processes may come and go
   * @returns "none" while no such process is there; then "alive", or why the engine is gone: a process that
   *   was there before has ended, is a zombie, or has been stopped.
   */
  look(isSettled: boolean): "none" | "alive" | { gone: string } {
    this.#meetOthers();
    for (const [pid, name] of this.#known) {
      const end = endOf(this.#stateOf(pid));
      if (end === undefined) continue;
      if (isSettled) return { gone: `${name} (process ${pid}) ${end}` };
      this.#known.delete(pid);
    }
    return this.#known.size === 0 ? "none" : "alive";
  }

  /** A process is known from when its command line fits; a worker takes its name after its start. */
  #meetOthers(): void {
    const fitting = new Set<number>();
    for (const pid of readdirSync(this.#proc)
      .filter((name) => /^\d+$/.test(name))
      .map(Number)) {
      if (pid === process.pid || this.#known.has(pid)) continue;
      const command = this.#read(pid, "cmdline")?.replaceAll("\0", " ").trim() ?? "";
      const name = this.#pattern.exec(command)?.[0];
      if (name === undefined || endOf(this.#stateOf(pid)) !== undefined) continue;
      if (this.#candidates.has(pid)) this.#known.set(pid, name);
      else fitting.add(pid);
    }
    this.#candidates = fitting;
  }

  /** The letter after the command's name in /proc/PID/stat (proc_pid_stat(5)). */
  #stateOf(pid: number): string | undefined {
    const stat = this.#read(pid, "stat");
    return stat?.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
  }

  #read(pid: number, file: string): string | undefined {
    try {
      return readFileSync(join(this.#proc, String(pid), file), "utf8");
    } catch {
      return undefined;
    }
  }
}

/** What has become of a process in this state; undefined where it lives. */
function endOf(state: string | undefined): string | undefined {
  if (state === undefined) return "has ended";
  if (state === "Z" || state === "X") return "has died";
  return state === "T" || state === "t" ? "is stopped" : undefined;
}
