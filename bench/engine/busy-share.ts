import { cpus } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

/** The share of all processors that is in use in the next so many ms, 0 to 1. */
export async function busyShare(ms: number): Promise<number> {
  const before = processorTimes();
  await sleep(ms);
  const after = processorTimes();
  const total = after.total - before.total;
  return total === 0 ? 0 : 1 - (after.idle - before.idle) / total;
}

/** Since the machine was started, in ms, of all processors together. */
function processorTimes(): { idle: number; total: number } {
  const all = cpus().map(({ times }) => times);
  const idle = all.reduce((sum, times) => sum + times.idle, 0);
  const total = all.reduce((sum, times) => {
    return sum + times.idle + times.user + times.sys + times.nice + times.irq;
  }, 0);
  return { idle, total };
}
