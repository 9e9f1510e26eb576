import { setTimeout as sleep } from "node:timers/promises";

/**
 * Calls `check` until it neither throws nor returns undefined or false, and returns what it returned.
 * @throws its last error, or that it never came true, after `withinMs`.
 */
export async function eventually<T>(
  check: () => T | undefined | false | Promise<T | undefined | false>,
  withinMs = 10_000,
): Promise<T> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    let failure: unknown = new Error(`It did not happen within ${withinMs} ms.`);
    try {
      const result = await check();
      if (result !== undefined && result !== false) return result;
    } catch (error) {
      failure = error;
    }
    if (Date.now() > deadline) throw failure;
    await sleep(10);
  }
}
