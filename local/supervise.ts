import { pause } from "./bell.ts";

/** What can be kept running. */
interface Mortal {
  died: Promise<string>;
  stop(): Promise<void>;
}

export interface Supervised<Part> {
  /** The part as it runs now, or as it ran last. */
  current(): Part;
  stop(): Promise<void>;
}

export interface SuperviseOptions<Part> {
  name: string;
  start(): Promise<Part>;
  /** Hears of deaths, failed starts and new starts, in words. */
  note(line: string): void;
  /** Called after each start but the first. */
  restarted?(part: Part): void;
}

const firstDelayMs = 200;
const longestDelayMs = 5_000;
/** A part that has run for this long is well: its next death is a new story. */
const healthyMs = 30_000;

/**
 * Starts a part, and starts it again whenever it dies: at once 200 ms later, then after pauses that
 * double up to 5 s.
 * @throws what the first start throws; later failures are noted and tried again.
 */
export async function supervise<Part extends Mortal>(
  options: SuperviseOptions<Part>,
): Promise<Supervised<Part>> {
  const { name, note } = options;
  const stopping = new AbortController();
  let part = await options.start();

  async function watch(): Promise<void> {
    let delayMs = firstDelayMs;
    while (!stopping.signal.aborted) {
      const startedAt = Date.now();
      const stopped = new Promise<undefined>((resolve) => {
        stopping.signal.addEventListener("abort", () => resolve(undefined), { once: true });
      });
      const reason = await Promise.race([part.died, stopped]);
      if (reason === undefined) return;
      if (Date.now() - startedAt > healthyMs) delayMs = firstDelayMs;
      note(`${name} ${reason}; it is started again in ${delayMs} ms`);
      const next = await startAgain(delayMs);
      if (next === undefined) return;
      part = next;
      delayMs = Math.min(delayMs * 2, longestDelayMs);
      options.restarted?.(part);
    }
  }

  /** @returns the part, or undefined when it is to be stopped. */
  async function startAgain(delayMs: number): Promise<Part | undefined> {
    for (let waitMs = delayMs; ; waitMs = Math.min(waitMs * 2, longestDelayMs)) {
      await pause(waitMs, stopping.signal);
      if (stopping.signal.aborted) return undefined;
      try {
        return await options.start();
      } catch (error) {
        note(`${name} does not start again: ${error instanceof Error ? error.message : error}`);
      }
    }
  }

  const watching = watch();
  return {
    current: () => part,
    async stop() {
      stopping.abort();
      await watching;
      await part.stop();
    },
  };
}
