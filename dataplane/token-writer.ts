import { setTimeout as sleep } from "node:timers/promises";
import { backoffMs } from "./backoff.ts";
import { leaseMs } from "./lease.ts";
import type { LeaderMeter } from "./metrics/leader-meter.ts";
import type { AppendResult, StreamToken, TokenStream, TurnRecord } from "./token-stream.ts";

/** A token that is to be written. */
export type NewToken = Pick<StreamToken, "text" | "token">;

export interface TokenWriterOptions {
  now: () => number;
  onError: (error: unknown) => void;
  meter?: Pick<LeaderMeter, "appends" | "appendDuration" | "generatedTokens"> | undefined;
}

/** One turn's way into its token stream. */
export interface TurnWriter {
  write(token: NewToken): void;
  /** Resolves when all that was written is in the stream, with its last sequence number. */
  settled(): Promise<number>;
  /** When the first token written here was in the stream, ms; undefined before. */
  firstWrittenAt(): number | undefined;
  /** How many round trips its tokens have taken, and the slowest of them in ms. */
  appends(): { batches: number; slowestMs: number };
  /** Writes all of the turn anew, for a Redis that has lost it. Throws what Redis throws. */
  restore(): Promise<void>;
  /** The lease was renewed until then, ms of Redis's clock. */
  renewed(leaseUntilMs: number): void;
  close(): void;
}

interface Lane {
  turn: TurnRecord & { tokens: StreamToken[] };
  pending: NewToken[];
  firstWrittenAt: number | undefined;
  batches: number;
  slowestMs: number;
  closed: boolean;
  onLost: () => void;
  waiters: (() => void)[];
}

/**
 * Writes the tokens of all running turns. While one round trip is under way the next tokens gather,
 * and go out together in the next: one pipeline a step at a calm pace, larger ones under load. When
 * Redis is away, tokens wait here and are written once it is back; the script makes a repeat harmless.
 * When Redis comes back without tokens that were in it, they are written again: until the turn has
 * ended its leader has them all.
 */
export class TokenWriter {
  readonly #stream: TokenStream;
  readonly #now: () => number;
  readonly #onError: (error: unknown) => void;
  readonly #meter: TokenWriterOptions["meter"];
  readonly #lanes = new Set<Lane>();
  #flushing = false;
  #written = 0;

  constructor(stream: TokenStream, { now, onError, meter }: TokenWriterOptions) {
    this.#stream = stream;
    this.#now = now;
    this.#onError = onError;
    this.#meter = meter;
  }

  /** Tokens of all turns that were written since the start. */
  get written(): number {
    return this.#written;
  }

  /** Starts writing for a turn, after its `tokens`. `onLost`: another leader has it now. */
  open(turn: TurnRecord, onLost: () => void): TurnWriter {
    const lane: Lane = {
      turn: { ...turn, tokens: [...turn.tokens] },
      ...{ onLost, pending: [], waiters: [], closed: false, firstWrittenAt: undefined },
      ...{ batches: 0, slowestMs: 0 },
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
        return lane.turn.tokens.length;
      },
      firstWrittenAt: () => lane.firstWrittenAt,
      appends: () => ({ batches: lane.batches, slowestMs: lane.slowestMs }),
      restore: () => this.#restore(lane),
      renewed(leaseUntilMs) {
        lane.turn.leaseUntilMs = leaseUntilMs;
      },
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
      const appends = batch.map(({ turn: { job, epoch, tokens }, pending }) => ({
        turnId: job.turnId,
        epoch,
        from: tokens.length + 1,
        tokens: pending.slice(),
      }));
      const beganAt = performance.now();
      try {
        const results = await this.#stream.appendAll(appends);
        const tookMs = performance.now() - beganAt;
        this.#meter?.appendDuration.observe(tookMs / 1_000);
        for (const [i, lane] of batch.entries()) {
          lane.batches++;
          if (tookMs > lane.slowestMs) lane.slowestMs = tookMs;
          const result = results[i] ?? "stale";
          this.#meter?.appends[result].add();
          if (result === "behind") await this.#restore(lane);
          else this.#settle(lane, appends[i]?.tokens ?? [], result);
        }
        failures = 0;
      } catch (error) {
        if (failures === 0) this.#onError(error);
        await sleep(backoffMs(failures++, 20, 1_000));
      }
    }
  }

  async #restore(lane: Lane): Promise<void> {
    if (lane.closed) return;
    const result = await this.#stream.restore(lane.turn, leaseMs);
    if (result !== "ok") this.#lose(lane);
  }

  #settle(lane: Lane, written: readonly NewToken[], result: AppendResult): void {
    if (lane.closed) return;
    if (result !== "ok" && result !== "duplicate") {
      this.#lose(lane);
      return;
    }
    this.#written += written.length;
    this.#meter?.generatedTokens.add(written.length);
    const { epoch, tokens } = lane.turn;
    for (const token of written) tokens.push({ ...token, epoch });
    lane.pending.splice(0, written.length);
    lane.firstWrittenAt ??= this.#now();
    if (lane.pending.length === 0) wake(lane);
  }

  #lose(lane: Lane): void {
    this.#close(lane);
    lane.onLost();
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
