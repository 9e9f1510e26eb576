import { setTimeout as sleep } from "node:timers/promises";

/**
 * A budget of calls a second (a token bucket that holds a quarter of a second). While it is empty
 * callers wait in line, and what they carry grows: that is how frames get larger under load.
 */
export function callBudget(callsPerSecond: number): { take(): Promise<void> } {
  const most = Math.max(1, callsPerSecond / 4);
  let available = most;
  let filledAt = performance.now();
  return {
    async take() {
      const now = performance.now();
      available = Math.min(most, available + ((now - filledAt) / 1_000) * callsPerSecond);
      filledAt = now;
      available -= 1;
      if (available < 0) await sleep((-available / callsPerSecond) * 1_000);
    },
  };
}
