import { setTimeout as sleep } from "node:timers/promises";

/**
 * Delays between attempts: they double from `firstMs` to `mostMs`, each drawn evenly from its upper
 * half, so that many who failed together do not come back together.
 */
export function backoffMs(attempt: number, firstMs: number, mostMs: number): number {
  const delay = Math.min(mostMs, firstMs * 2 ** Math.min(attempt, 20));
  return delay * (0.5 + Math.random() / 2);
}

/**
 * Calls `attempt` until it succeeds, waiting in between.
 * @throws the last error, when `worthRetrying` says no or the signal is aborted.
 */
export async function retry<T>(
  attempt: () => Promise<T>,
  {
    worthRetrying,
    signal,
    firstMs = 50,
    mostMs = 2_000,
  }: {
    worthRetrying: (error: unknown) => boolean;
    signal?: AbortSignal;
    firstMs?: number;
    mostMs?: number;
  },
): Promise<T> {
  for (let failures = 0; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (signal?.aborted || !worthRetrying(error)) throw error;
      await sleep(backoffMs(failures, firstMs, mostMs), undefined, { signal }).catch(() => {
        throw error;
      });
    }
  }
}
