/** What an engine says of its work; part of `EngineHealth`. */
interface Work {
  /** Steps since the start. vLLM: the count of `vllm:iteration_tokens_total`. */
  steps: number;
  runningTurns: number;
}

/**
 * Sees an engine that stands still: turns run, and its count of steps does not grow. A dead rank makes
 * that, and vLLM's own /health stays 200 (vllm-project/vllm#11996).
 *
 * It counts looks instead of reading a clock, so that a machine that slept is not taken for a stuck engine.
 */
export class ProgressWatch {
  readonly #looksToStall: number;
  #steps = -1;
  #idleLooks = 0;

  /** @param stallMs how long an engine may stand still; @param lookMs how often `look` is called */
  constructor({ stallMs, lookMs }: { stallMs: number; lookMs: number }) {
    this.#looksToStall = Math.max(1, Math.ceil(stallMs / lookMs));
  }

  look({ steps, runningTurns }: Work): void {
    const isStill = runningTurns > 0 && steps === this.#steps;
    this.#steps = steps;
    this.#idleLooks = isStill ? this.#idleLooks + 1 : 0;
  }

  get isStalled(): boolean {
    return this.#idleLooks >= this.#looksToStall;
  }
}
