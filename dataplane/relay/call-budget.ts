import { setTimeout as sleep } from "node:timers/promises";

/** A budget of calls a second. */
export interface CallBudget {
  take(): Promise<void>;
  /** The rest belongs to others from now on. */
  setRate(callsPerSecond: number): void;
}

/** So long a call waits, at most, while the budget is not used up. */
const widestMs = 100;

/**
 * A token bucket that holds a quarter of a second. As it empties, callers wait longer and longer before
 * their call, and what they carry grows: frames widen before the budget is exceeded. Once it is empty
 * they wait in line.
 */
export function callBudget(
  callsPerSecond: number,
  { now = () => performance.now(), wait = (ms: number) => sleep(ms).then(() => {}) } = {},
): CallBudget {
  let rate = callsPerSecond;
  const most = () => Math.max(1, rate / 4);
  let available = most();
  let filledAt = now();
  return {
    setRate(next) {
      rate = Math.max(1, next);
    },
    async take() {
      const at = now();
      available = Math.min(most(), available + ((at - filledAt) / 1_000) * rate);
      filledAt = at;
      available -= 1;
      const fill = available / most();
      if (fill >= 0.5) return;
      const lineMs = (-Math.min(0, available) / rate) * 1_000;
      const windowMs = Math.min(1, 1 - 2 * fill) * widestMs;
      await wait(Math.max(lineMs, windowMs));
    },
  };
}
