import { setTimeout as sleep } from "node:timers/promises";
import { backoffMs } from "./backoff.ts";
import type { AppendResult, StreamToken, TokenStream } from "./token-stream.ts";

/** One turn's way into its token stream. */
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

/**
 * Writes the tokens of all running turns. While one round trip is under way the next tokens gather,
 * and go out together in the next: one pipeline a step at a calm pace, larger ones under load. When
 * Redis is away, tokens wait here and are written once it is back; the script makes a repeat harmless.
 */
export class TokenWriter {
  readonly #stream: TokenStream;
  readonly #now: () => number;
  readonly #onError: (error: unknown) => void;
  readonly #lanes = new Set<Lane>();
  #flushing = false;

  constructor(
    stream: TokenStream,
    { now, onError }: { now: () => number; onError: (error: unknown) => void },
  ) {
    this.#stream = stream;
    this.#now = now;
    this.#onError = onError;
  }

  /** Starts writing for a turn that has `lastSeq` tokens. `onLost`: another leader has it now. */
  open(turn: { turnId: string; epoch: number; lastSeq: number }, onLost: () => void): TurnWriter {
    const lane: Lane = {
      ...turn,
      ...{ onLost, pending: [], waiters: [], closed: false, firstWrittenAt: undefined },
    };
    this.#lanes.add(lane);
    return {
      write: (token) => {
        if (lane.closed) return;
        lane.pending.push(token);
        this.#schedule();
      },
      async settled() {
        if (lane.pending.length > 0) {
          await new Promise<void>((resolve) => lane.waiters.push(resolve));
        }
        return lane.lastSeq;
      },
      firstWrittenAt: () => lane.firstWrittenAt,
      close: () => this.#close(lane),
    };
  }

  #schedule(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    // The engine hands out a step's tokens one turn after the other: wait for the last of them.
    setImmediate(() => {
      void this.#flush().finally(() => {
        this.#flushing = false;
        if (this.#waiting().length > 0) this.#schedule();
      });
    });
  }

  #waiting(): Lane[] {
    return [...this.#lanes].filter((lane) => lane.pending.length > 0);
  }

  async #flush(): Promise<void> {
    let failures = 0;
    for (let batch = this.#waiting(); batch.length > 0; batch = this.#waiting()) {
      const appends = batch.map(({ turnId, epoch, lastSeq, pending }) => ({
        turnId,
        epoch,
        from: lastSeq + 1,
        tokens: pending.slice(),
      }));
      try {
        const results = await this.#stream.appendAll(appends);
        failures = 0;
        batch.forEach((lane, i) => {
          this.#settle(lane, appends[i]?.tokens.length ?? 0, results[i] ?? "stale");
        });
      } catch (error) {
        if (failures === 0) this.#onError(error);
        await sleep(backoffMs(failures++, 20, 1_000));
      }
    }
  }

  #settle(lane: Lane, written: number, result: AppendResult): void {
    if (lane.closed) return;
    if (result !== "ok" && result !== "duplicate") {
      this.#close(lane);
      lane.onLost();
      return;
    }
    lane.lastSeq += written;
    lane.pending.splice(0, written);
    lane.firstWrittenAt ??= this.#now();
    if (lane.pending.length === 0) wake(lane);
  }

  #close(lane: Lane): void {
    lane.closed = true;
    lane.pending.length = 0;
    this.#lanes.delete(lane);
    wake(lane);
  }
}

function wake(lane: Lane): void {
  for (const waiter of lane.waiters.splice(0)) waiter();
}
