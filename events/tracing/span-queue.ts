import type { ReadableSpan, SpanProcessor } from "@opentelemetry/sdk-trace";

/**
 * What became of a batch.
 * - `away`: the other side may take it later.
 * - `refused`: it never will.
 */
export type SendResult = "sent" | "away" | "refused";

/** Where spans go, and how many of them wait for how long. */
export interface SpanQueueOptions {
  /** Never rejects. */
  send(spans: readonly ReadableSpan[]): Promise<SendResult>;
  note(message: string, details: Record<string, unknown>): void;
  /** Spans in memory, at most. */
  mostSpans?: number;
  batchSpans?: number;
  /** How long a span waits for others, ms. */
  delayMs?: number;
  /** How long nothing is tried after a failure, ms; twice as long after each further one. */
  pauseMs?: number;
}

const mostPauseMs = 30_000;

/**
 * Spans that have ended and are to be sent. Ending one costs a push to an array: they are sent in the
 * background, one batch at a time. While the collector is away they wait, up to a bound; what comes on top
 * is dropped and counted, and who runs the process is told once, and again when it is over.
 */
export class SpanQueue implements SpanProcessor {
  readonly #options: Required<SpanQueueOptions>;
  readonly #waiting: ReadableSpan[] = [];
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #failures = 0;
  #pausedUntil = 0;
  #dropped = 0;

  constructor(options: SpanQueueOptions) {
    this.#options = {
      ...{ mostSpans: 2_048, batchSpans: 512, delayMs: 1_000, pauseMs: 1_000 },
      ...options,
    };
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if (this.#waiting.length >= this.#options.mostSpans) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(span);
    if (this.#waiting.length >= this.#options.batchSpans) void this.#send();
    else this.#schedule(this.#options.delayMs);
  }

  /** Sends what is there, unless the collector was found away a moment ago. */
  async forceFlush(): Promise<void> {
    await this.#sending;
    await this.#send();
  }

  shutdown(): Promise<void> {
    return this.forceFlush();
  }

  #schedule(ms: number): void {
    if (this.#timer !== undefined || this.#sending !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#send();
    }, ms);
    // Spans that wait keep no process alive.
    this.#timer.unref();
  }

  #send(): Promise<void> {
    const pauseMs = this.#pausedUntil - Date.now();
    if (pauseMs > 0) {
      this.#schedule(pauseMs);
      return Promise.resolve();
    }
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = undefined;
      const { delayMs } = this.#options;
      if (this.#waiting.length > 0) {
        this.#schedule(Math.max(delayMs, this.#pausedUntil - Date.now()));
      }
    });
    return this.#sending;
  }

  async #sendAll(): Promise<void> {
    const { send, batchSpans, pauseMs } = this.#options;
    // What ends meanwhile waits for the next time: whoever waits for this does not wait for ever.
    for (let left = this.#waiting.length; left > 0; left -= batchSpans) {
      const batch = this.#waiting.slice(0, Math.min(left, batchSpans));
      const result = await send(batch);
      if (result === "away") {
        this.#pausedUntil = Date.now() + Math.min(mostPauseMs, pauseMs * 2 ** this.#failures);
        this.#noteFailure("the collector of traces is away");
        return;
      }
      this.#waiting.splice(0, batch.length);
      if (result === "refused") {
        this.#dropped += batch.length;
        this.#noteFailure("the collector refuses traces");
      } else this.#noteSuccess();
    }
  }

  #noteFailure(message: string): void {
    const { note } = this.#options;
    if (this.#failures++ === 0) note(message, { waiting: this.#waiting.length });
  }

  #noteSuccess(): void {
    const { note } = this.#options;
    if (this.#failures > 0 || this.#dropped > 0) {
      note("the collector of traces takes them again", { droppedSpans: this.#dropped });
    }
    this.#failures = 0;
    this.#dropped = 0;
  }
}
