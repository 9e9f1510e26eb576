import type { EngineEvent } from "./engine.ts";
import type { EngineCounters } from "./engine-counters.ts";
import type { CoreRequest, RequestEvent } from "./rank-messages.ts";
import type { Scheduler, Sequence, Step } from "./scheduler.ts";

export interface CoreParts {
  scheduler: Scheduler;
  counters: EngineCounters;
  /** Runs a step on all ranks: the tokens drawn, one for each draw. */
  runStep(step: Step): Promise<Int32Array>;
  /** Takes in what has come meanwhile, by calling `add` and `cancel`. */
  receive(): void;
  post(events: RequestEvent[]): void;
}

/**
 * The engine's loop, in rank 0's thread: requests in, events out, one step right after the other.
 * Nobody else is waited for between two steps, so that the ranks never stand still while there is
 * something to do.
 */
export class EngineCore {
  readonly #parts: CoreParts;
  readonly #sequences = new Map<number, Sequence>();
  #events: RequestEvent[] = [];
  #isRunning = false;
  #steps = 0;
  #stepMs = 0;

  constructor(parts: CoreParts) {
    this.#parts = parts;
    this.#count();
  }

  add(id: number, request: CoreRequest): void {
    const emit = (event: EngineEvent) => {
      this.#events.push({ id, event });
      if (event.type === "finish") this.#sequences.delete(id);
    };
    // It may finish at once, before it has been kept.
    const sequence = this.#parts.scheduler.add(request, emit);
    if (sequence.state !== "finished") this.#sequences.set(id, sequence);
  }

  cancel(id: number): void {
    const sequence = this.#sequences.get(id);
    if (sequence !== undefined) this.#parts.scheduler.cancel(sequence);
  }

  /** Runs steps as long as there is something to do. Throws what a step throws. */
  async run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      for (;;) {
        this.#parts.receive();
        const step = this.#parts.scheduler.schedule();
        this.#tell();
        if (step === undefined) break;
        const beganAt = performance.now();
        const tokens = await this.#parts.runStep(step);
        this.#stepMs += performance.now() - beganAt;
        this.#steps += 1;
        this.#parts.scheduler.postprocess(step, tokens);
        this.#tell();
      }
    } finally {
      this.#isRunning = false;
    }
  }

  /** The counts first: whoever hears of an event finds it counted. */
  #tell(): void {
    this.#count();
    if (this.#events.length > 0) this.#parts.post(this.#events.splice(0));
  }

  #count(): void {
    const { runningCount: runningTurns, cache } = this.#parts.scheduler;
    this.#parts.counters.write({
      ...{ steps: this.#steps, stepSeconds: this.#stepMs / 1_000, runningTurns },
      ...cache,
    });
  }
}
