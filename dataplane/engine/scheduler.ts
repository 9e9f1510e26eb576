/**
 * Continuous batching: decides, before each step, which sequences run and how many tokens of each.
 * It is plain data and functions; running a step is somebody else's business.
 *
 * A sequence is in one of these states:
 *   waiting   in line for a slot. Exits: running (a slot is free, first come first served), finished.
 *   running   has a slot, and the keys and values of its first `computed` tokens are in the cache.
 *             Exit: finished.
 *   finished  its finish is emitted. If it had a slot, the next step releases it. No exit.
 *
 * Prefill and decode do not differ: a running sequence has tokens that the cache lacks, many of the
 * prompt at first, then only the one drawn last. When a step has brought them all into the cache, the
 * next token is drawn. Decoding sequences come first, and what they leave of a step's token budget goes to
 * prefilling, so a long prompt delays nobody by more than one budget a step.
 */

import type { EngineEvent, FinishReason, GenerateRequest, Sampling } from "./engine.ts";
import type { Draw } from "./sampler.ts";
import type { PlanChunk, StepPlan } from "./step-plan.ts";

export interface SchedulerLimits {
  slots: number;
  /** Tokens that one step computes at most; not less than `slots`, so that all can decode. */
  tokensPerStep: number;
  contextLength: number;
  eosTokens: readonly number[];
}

export interface Sequence {
  state: "waiting" | "running" | "finished";
  /** Prompt and answer. */
  tokens: number[];
  /** Length that it may reach, prompt included. */
  maxLength: number;
  computed: number;
  slot: number;
  sampling: Sampling;
  emit: (event: EngineEvent) => void;
}

export interface Step {
  plan: StepPlan;
  /** For each chunk that wants logits, in their order. */
  draws: Draw[];
  /** Whose tokens the draws give. */
  drawing: Sequence[];
  /** For each chunk, its sequence. */
  running: Sequence[];
}

export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #eosTokens: ReadonlySet<number>;
  readonly #waiting: Sequence[] = [];
  /** In the order of arrival. */
  #running: Sequence[] = [];
  readonly #freeSlots: number[];
  #released: number[] = [];

  constructor(limits: SchedulerLimits) {
    this.#limits = limits;
    this.#eosTokens = new Set(limits.eosTokens);
    this.#freeSlots = Array.from({ length: limits.slots }, (_, slot) => slot);
  }

  get runningCount(): number {
    return this.#running.length;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Takes a request in. `emit` gets its events; a finish may come at once. */
  add(
    { promptTokens, emittedTokens, maxTokens, sampling }: GenerateRequest,
    emit: (event: EngineEvent) => void,
  ): Sequence {
    const sequence: Sequence = {
      state: "waiting",
      tokens: [...promptTokens, ...emittedTokens],
      maxLength: Math.min(promptTokens.length + maxTokens, this.#limits.contextLength),
      computed: 0,
      slot: -1,
      sampling,
      emit,
    };
    this.#waiting.push(sequence);
    if (sequence.tokens.length >= sequence.maxLength) this.#finish(sequence, "length");
    return sequence;
  }

  cancel(sequence: Sequence): void {
    if (sequence.state !== "finished") this.#finish(sequence, "cancelled");
  }

  /** The next step, or undefined when there is nothing to do. */
  schedule(): Step | undefined {
    this.#admit();
    const step: Step = {
      plan: { released: this.#released, chunks: [] },
      draws: [],
      drawing: [],
      running: [],
    };
    this.#released = [];
    const missing = (sequence: Sequence) => sequence.tokens.length - sequence.computed;
    const decoding = this.#running.filter((sequence) => missing(sequence) === 1);
    const prefilling = this.#running.filter((sequence) => missing(sequence) > 1);
    let budget = this.#limits.tokensPerStep;
    const chunks: PlanChunk[] = [];
    for (const sequence of [...decoding, ...prefilling]) {
      const count = Math.min(missing(sequence), budget);
      if (count === 0) break;
      budget -= count;
      const { slot, computed: start, tokens, sampling } = sequence;
      const end = start + count;
      const wantsLogits = end === tokens.length;
      chunks.push({ slot, start, tokens: tokens.slice(start, end), wantsLogits });
      step.running.push(sequence);
      if (!wantsLogits) continue;
      step.draws.push({ ...sampling, position: end });
      step.drawing.push(sequence);
    }
    step.plan = { ...step.plan, chunks };
    return chunks.length > 0 || step.plan.released.length > 0 ? step : undefined;
  }

  /** Takes the tokens that a step has drawn, one for each of its draws. */
  postprocess(step: Step, drawn: Int32Array): void {
    step.running.forEach((sequence, index) => {
      sequence.computed += step.plan.chunks[index]?.tokens.length ?? 0;
    });
    step.drawing.forEach((sequence, index) => {
      const token = drawn[index];
      // A sequence that was cancelled while the step ran has had its last word.
      if (sequence.state !== "running" || token === undefined) return;
      if (this.#eosTokens.has(token)) {
        this.#finish(sequence, "stop");
        return;
      }
      sequence.tokens.push(token);
      sequence.emit({ type: "token", token });
      if (sequence.tokens.length >= sequence.maxLength) this.#finish(sequence, "length");
    });
  }

  #admit(): void {
    while (this.#freeSlots.length > 0) {
      const sequence = this.#waiting.shift();
      if (sequence === undefined) return;
      sequence.slot = this.#freeSlots.shift() ?? -1;
      sequence.state = "running";
      this.#running.push(sequence);
    }
  }

  #finish(sequence: Sequence, reason: FinishReason): void {
    if (sequence.state === "running") {
      this.#running = this.#running.filter((other) => other !== sequence);
      this.#freeSlots.push(sequence.slot);
      this.#released.push(sequence.slot);
    } else {
      this.#waiting.splice(this.#waiting.indexOf(sequence), 1);
    }
    sequence.state = "finished";
    sequence.emit({ type: "finish", reason });
  }
}
