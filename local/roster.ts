import { appendFileSync } from "node:fs";
import type { DataFolder } from "./data-folder.ts";
import { type Supervised, supervise } from "./supervise.ts";

/** One line of what runs. */
export interface StagePart {
  name: string;
  /** Where it listens, or what it serves. */
  address: string;
  /** None for a part that the environment names and somebody else runs. */
  pid: number | undefined;
  /** Of a group: the id by which the log names it, and its ranks. */
  groupId?: string;
  ranks?: { rank: number; pid: number }[];
  /** Below it GET /metrics answers, where it does. */
  metricsUrl?: string;
}

interface Mortal {
  died: Promise<string>;
  stop(): Promise<void>;
}

interface PartDefinition<Part> {
  /** For `stop`, log lines and messages. */
  name: string;
  start(): Promise<Part>;
  /** The lines that it adds to the list of parts. */
  describe(part: Part): StagePart[];
  /** Called after each start but the first. */
  restarted?(): void;
}

/** The parts of a stage: who runs, in the order of their starting, and how to end each. */
export interface Roster {
  keep<Part extends Mortal>(definition: PartDefinition<Part>): Promise<Supervised<Part>>;
  /** Adds parts that are kept elsewhere. @returns what to call when they have changed. */
  include(describe: () => StagePart[]): () => void;
  parts(): StagePart[];
  /** Tells, in the stage's log and to the user, what is done about parts that die. */
  note(line: string): void;
  /** Stops a part, also one that is starting now. A part that never started is stopped already. */
  stop(name: string): Promise<void>;
}

/**
 * @param changed called whenever a part has been started again.
 * @param note hears what is done about parts that die.
 */
export function createRoster(
  folder: DataFolder,
  changed: () => void,
  note: (line: string) => void,
): Roster {
  const starting = new Map<string, Promise<{ stop(): Promise<void> }>>();
  const describing = new Map<string, () => StagePart[]>();
  const parts = (): StagePart[] => [...describing.values()].flatMap((describe) => describe());
  const record = (): void => {
    const pids = parts().flatMap(({ pid = process.pid, ranks = [] }) => [
      pid,
      ...ranks.map((rank) => rank.pid),
    ]);
    // The emulators live in this process, which needs no reaping.
    folder.recordProcesses(pids.filter((pid) => pid !== process.pid));
  };

  const noted = (line: string): void => {
    appendFileSync(folder.logFile("stage"), `${new Date().toISOString()} ${line}\n`);
    note(line);
  };

  return {
    parts,
    note: noted,
    include(describe) {
      describing.set(`included ${describing.size}`, describe);
      return () => {
        record();
        changed();
      };
    },
    async keep({ name, start, describe, restarted }) {
      const supervising = supervise({
        name,
        start,
        note: noted,
        restarted() {
          record();
          changed();
          restarted?.();
        },
      });
      starting.set(name, supervising);
      const supervised = await supervising;
      describing.set(name, () => describe(supervised.current()));
      record();
      return supervised;
    },
    async stop(name) {
      const [started] = await Promise.allSettled([starting.get(name)]);
      if (started.status === "fulfilled") await started.value?.stop();
    },
  };
}
