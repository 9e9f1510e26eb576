/** Lets one waiter sleep until somebody rings; a ring that nobody waited for is heard later. */
export interface Bell {
  ring(): void;
  /** Waits for a ring, for `ms` at most, or until the signal. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
}

export function createBell(): Bell {
  let rung = false;
  let wake: (() => void) | undefined;
  return {
    ring() {
      rung = true;
      wake?.();
    },
    async wait(ms, signal) {
      if (!rung) {
        const ringing = new AbortController();
        wake = () => ringing.abort();
        await pause(ms, AbortSignal.any([signal, ringing.signal]));
        wake = undefined;
      }
      rung = false;
    },
  };
}

/** Waits for `ms`, or until the signal. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, Math.max(0, ms));
    signal.addEventListener("abort", end);
  });
}
