/**
 * Continuous batching: decides, before each step, which sequences run and how many tokens of each.
 * It is plain data and functions; running a step is somebody else's business.
 *
 * A sequence is in one of these states:
 *   waiting   in line. Exits: running (a slot and pages for all its tokens are free; first come,
 *             first served), finished.
 *   running   has a slot, and the keys and values of its first `computed` tokens are in its pages.
 *             Exits: finished; waiting, at the head of the line, when pages run out and it came last:
 *             its pages go to those before it, and are computed again later (preemption).
 *   finished  its finish is emitted. No exit.
 *
 * Prefill and decode do not differ: a running sequence has tokens that the cache lacks, many of the
 * prompt at first, then only the one drawn last. When a step has brought them all into the cache, the
 * next token is drawn. Decoding sequences come first, and what they leave of a step's token budget goes to
 * prefilling; while there are any that decode, a smaller budget, so that prompts do not make them
 * wait.
 */

import type { EngineEvent, FinishReason, Sampling } from "./engine.ts";
import { pagePositions, pagesFor } from "./model/page-layout.ts";
import { type HeldPage, PagePool } from "./page-pool.ts";
import type { CoreRequest } from "./rank-messages.ts";
import { type Draw, pickFor } from "./sampler.ts";
import type { PlanChunk, StepPlan } from "./step-plan.ts";

export interface SchedulerLimits {
  slots: number;
  /** Tokens that one step computes at most; not less than `slots`, so that all can decode. */
  tokensPerStep: number;
  /** The same, for a step in which somebody decodes. */
  tokensPerSharedStep: number;
  contextLength: number;
  /** Pages of keys and values; enough for one sequence of the context's length. */
  pages: number;
  eosTokens: readonly number[];
}

export interface Sequence {
  state: "waiting" | "running" | "finished";
  /** Prompt and answer. */
  tokens: number[];
  /** Length that it may reach, prompt included. */
  maxLength: number;
  computed: number;
  pages: HeldPage[];
  cacheScope: string;
  sampling: Sampling;
  emit: (event: EngineEvent) => void;
}

export interface Step {
  plan: StepPlan;
  /** For each chunk that draws, in their order. */
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
  readonly #pool: PagePool;
  #reusedTokens = 0;
  #preemptions = 0;

  constructor(limits: SchedulerLimits) {
    this.#limits = limits;
    this.#eosTokens = new Set(limits.eosTokens);
    this.#pool = new PagePool(limits.pages);
  }

  get runningCount(): number {
    return this.#running.length;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** Pages in use, tokens whose keys and values were found in the cache, sequences sent back. */
  get cache() {
    const used = this.#pool.size - this.#pool.available;
    const counts = { reusedTokens: this.#reusedTokens, preemptions: this.#preemptions };
    return { pages: this.#pool.size, usedPages: used, ...counts };
  }

  /** Takes a request in. `emit` gets its events; a finish may come at once. */
  add(request: CoreRequest, emit: (event: EngineEvent) => void): Sequence {
    const { promptTokens, emittedTokens, maxTokens, sampling, cacheScope } = request;
    const sequence: Sequence = {
      state: "waiting",
      tokens: [...promptTokens, ...emittedTokens],
      maxLength: Math.min(promptTokens.length + maxTokens, this.#limits.contextLength),
      computed: 0,
      pages: [],
      cacheScope: cacheScope ?? "",
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
    const decoding = this.#running.filter((sequence) => missing(sequence) === 1);
    const prefilling = this.#running.filter((sequence) => missing(sequence) > 1);
    const { tokensPerStep, tokensPerSharedStep } = this.#limits;
    const isShared = decoding.length > 0;
    let budget = isShared ? Math.max(tokensPerSharedStep, decoding.length) : tokensPerStep;
    const counts = new Map<Sequence, number>();
    for (const sequence of [...decoding, ...prefilling]) {
      const count = Math.min(missing(sequence), budget);
      if (count === 0) break;
      // It may have been sent back by one that was served before it.
      if (sequence.state !== "running" || !this.#grow(sequence, count, counts)) continue;
      counts.set(sequence, count);
      budget -= count;
    }
    return counts.size === 0 ? undefined : planStep(counts);
  }

  /** Takes the tokens that a step has drawn, one for each of its draws. */
  postprocess(step: Step, drawn: Int32Array): void {
    step.running.forEach((sequence, index) => {
      sequence.computed += step.plan.chunks[index]?.tokens.length ?? 0;
      const computed = sequence.tokens.slice(0, sequence.computed);
      this.#pool.publish(sequence.cacheScope, computed, sequence.pages);
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
    while (this.#running.length < this.#limits.slots) {
      const sequence = this.#waiting[0];
      if (sequence === undefined) return;
      const found = this.#pool.find(sequence.cacheScope, sequence.tokens);
      const needed = pagesFor(sequence.tokens.length) - found.length;
      if (needed > this.#pool.available - this.#pool.unused(found)) return;
      this.#waiting.shift();
      this.#pool.use(found);
      // Its own list, of entries that are its own: it publishes what it adds.
      sequence.pages = found.map((held) => ({ ...held }));
      this.#takePages(sequence, pagesFor(sequence.tokens.length));
      sequence.computed = found.length * pagePositions;
      this.#reusedTokens += sequence.computed;
      sequence.state = "running";
      this.#running.push(sequence);
    }
  }

  /**
   * Gets the pages for `count` more tokens. When there are none left, whoever came last is sent back
   * to the line, and out of the step; false when that is the sequence itself.
   */
  #grow(sequence: Sequence, count: number, counts: Map<Sequence, number>): boolean {
    while (!this.#takePages(sequence, pagesFor(sequence.computed + count))) {
      const last = this.#running.at(-1) ?? sequence;
      this.#sendBack(last);
      counts.delete(last);
      if (last === sequence) return false;
    }
    return true;
  }

  /** Whether the sequence has so many pages now. */
  #takePages(sequence: Sequence, count: number): boolean {
    while (sequence.pages.length < count) {
      const held = this.#pool.take();
      if (held === undefined) return false;
      sequence.pages.push(held);
    }
    return true;
  }

  #sendBack(sequence: Sequence): void {
    this.#stopRunning(sequence);
    sequence.state = "waiting";
    sequence.computed = 0;
    this.#waiting.unshift(sequence);
    this.#preemptions += 1;
  }

  #stopRunning(sequence: Sequence): void {
    this.#running = this.#running.filter((other) => other !== sequence);
    this.#pool.release(sequence.pages);
    sequence.pages = [];
  }

  #finish(sequence: Sequence, reason: FinishReason): void {
    if (sequence.state === "running") this.#stopRunning(sequence);
    else this.#waiting.splice(this.#waiting.indexOf(sequence), 1);
    sequence.state = "finished";
    sequence.emit({ type: "finish", reason });
  }
}

/** Tokens that are not in the cache yet. */
function missing(sequence: Sequence): number {
  return sequence.tokens.length - sequence.computed;
}

/** A step of the next `count` tokens of each sequence. */
function planStep(counts: ReadonlyMap<Sequence, number>): Step {
  const chunks: PlanChunk[] = [];
  const draws: Draw[] = [];
  const drawing: Sequence[] = [];
  for (const [sequence, count] of counts) {
    const { computed: start, sampling } = sequence;
    const end = start + count;
    const pages = sequence.pages.slice(0, pagesFor(end)).map(({ page }) => page);
    const chunk = { start, pages, tokens: sequence.tokens.slice(start, end) };
    if (end < sequence.tokens.length) {
      chunks.push(chunk);
      continue;
    }
    chunks.push({ ...chunk, pick: pickFor(sampling, sequence.tokens) });
    draws.push({ ...sampling, position: end });
    drawing.push(sequence);
  }
  return { plan: { chunks }, draws, drawing, running: [...counts.keys()] };
}
