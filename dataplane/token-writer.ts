import { setTimeout as sleep } from "node:timers/promises";
import { backoffMs } from "./backoff.ts";
import type { StreamToken, TokenStream } from "./token-stream.ts";

/**
 * Writes the tokens of all running turns. While one round trip is under way the next tokens gather,
 * and go out together in the next: one pipeline a step at a calm pace, larger ones under load. When
 * Redis is away, tokens wait here and are written once it is back; the script makes a repeat harmless.
 */
export interface TokenWriter {
  /** Starts writing for a turn that has `lastSeq` tokens already. */
  open(turn: { turnId: string; epoch: number; lastSeq: number }, onLost: () => void): TurnWriter;
}

export interface TurnWriter {
  write(token: StreamToken): void;
  /** Resolves when all that was written is in the stream, with its last sequence number. */
  settled(): Promise<number>;
  /** When the first token written here was in the stream, ms; undefined before. */
  firstWrittenAt(): number | undefined;
  close(): void;
}

interface Lane {
  turnId: string;
  epoch: number;
  lastSeq: number;
  pending: StreamToken[];
  firstWrittenAt: number | undefined;
  closed: boolean;
  onLost: () => void;
  waiters: (() => void)[];
}

export function tokenWriter(
  stream: TokenStream,
  { now, onError }: { now: () => number; onError: (error: unknown) => void },
): TokenWriter {
  const lanes = new Set<Lane>();
  let flushing = false;

  async function flush(): Promise<void> {
    for (let failures = 0; ; ) {
      const batch = [...lanes].filter((lane) => lane.pending.length > 0);
      if (batch.length === 0) return;
      const appends = batch.map(({ turnId, epoch, lastSeq, pending }) => ({
        turnId,
        epoch,
        from: lastSeq + 1,
        tokens: pending.slice(),
      }));
      try {
        const results = await stream.appendAll(appends);
        failures = 0;
        batch.forEach((lane, i) => {
          settle(lane, appends[i]?.tokens.length ?? 0, results[i] ?? "stale");
        });
      } catch (error) {
        if (failures === 0) onError(error);
        await sleep(backoffMs(failures++, 20, 1_000));
      }
    }
  }

  function settle(lane: Lane, written: number, result: string): void {
    if (lane.closed) return;
    if (result !== "ok" && result !== "duplicate") {
      close(lane);
      lane.onLost();
      return;
    }
    lane.lastSeq += written;
    lane.pending.splice(0, written);
    lane.firstWrittenAt ??= now();
    if (lane.pending.length === 0) wake(lane);
  }

  function wake(lane: Lane): void {
    for (const waiter of lane.waiters.splice(0)) waiter();
  }

  function close(lane: Lane): void {
    lane.closed = true;
    lane.pending.length = 0;
    lanes.delete(lane);
    wake(lane);
  }

  function schedule(): void {
    if (flushing) return;
    flushing = true;
    // The engine hands out a step's tokens one turn after the other: wait for the last of them.
    setImmediate(() => {
      void flush().finally(() => {
        flushing = false;
        if ([...lanes].some((lane) => lane.pending.length > 0)) schedule();
      });
    });
  }

  return {
    open({ turnId, epoch, lastSeq }, onLost) {
      const lane: Lane = {
        ...{ turnId, epoch, lastSeq, onLost },
        ...{ pending: [], waiters: [], closed: false, firstWrittenAt: undefined },
      };
      lanes.add(lane);
      return {
        write(token) {
          if (lane.closed) return;
          lane.pending.push(token);
          schedule();
        },
        async settled() {
          if (lane.pending.length > 0) {
            await new Promise<void>((resolve) => lane.waiters.push(resolve));
          }
          return lane.lastSeq;
        },
        firstWrittenAt: () => lane.firstWrittenAt,
        close: () => close(lane),
      };
    },
  };
}
