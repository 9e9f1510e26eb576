import { pause } from "../bell.ts";
import type { RunningChild } from "../child-process.ts";

/** A group whose leader is started, and started again whenever it ends, until it is told to stop. */
export interface KeptGroup {
  /** Undefined while there is none. */
  child(): RunningChild | undefined;
  /** Why the last start has failed; undefined after one that has not. */
  trouble(): Error | undefined;
  /** Resolves when it is up for the first time; rejects when its first start fails. */
  first: Promise<void>;
  /** Ends it, also while it starts. Resolves when no process is left. */
  stop(): Promise<void>;
}

export interface KeepOptions {
  /** For notes. */
  name: string;
  /** Gives up, and leaves no process, when the signal says so. */
  start(signal: AbortSignal): Promise<RunningChild>;
  note(line: string): void;
  /** Called whenever it is up. */
  started(): void;
}

const firstDelayMs = 200;
const longestDelayMs = 5_000;
/** A group that has run for this long is well: its next death is a new story. */
const healthyMs = 30_000;

export function keepGroup({ name, start, note, started }: KeepOptions): KeptGroup {
  const stopping = new AbortController();
  const { signal } = stopping;
  const first = Promise.withResolvers<void>();
  first.promise.catch(() => {});
  let child: RunningChild | undefined;
  let trouble: Error | undefined;

  /** @returns why it has ended, or could not start. */
  async function live(): Promise<string> {
    try {
      child = await start(signal);
    } catch (error) {
      trouble = error instanceof Error ? error : new Error(String(error));
      first.reject(trouble);
      return `does not start: ${trouble.message}`;
    }
    trouble = undefined;
    first.resolve();
    started();
    const reason = await Promise.race([child.died, aborted(signal)]);
    if (!signal.aborted) child = undefined;
    return reason;
  }

  async function keep(): Promise<void> {
    let delayMs = firstDelayMs;
    while (!signal.aborted) {
      const since = Date.now();
      const reason = await live();
      if (signal.aborted) break;
      if (Date.now() - since > healthyMs) delayMs = firstDelayMs;
      note(`${name} ${reason}; it is started again in ${delayMs} ms`);
      await pause(delayMs, signal);
      delayMs = Math.min(delayMs * 2, longestDelayMs);
    }
  }

  const keeping = keep();
  return {
    child: () => child,
    trouble: () => trouble,
    first: first.promise,
    async stop() {
      stopping.abort();
      await keeping;
      await child?.stop();
      child = undefined;
    },
  };
}

function aborted(signal: AbortSignal): Promise<string> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve("is stopped");
    signal.addEventListener("abort", () => resolve("is stopped"), { once: true });
  });
}
