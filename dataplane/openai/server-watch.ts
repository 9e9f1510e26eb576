import { setTimeout as sleep } from "node:timers/promises";
import { EngineError } from "../engine/engine-error.ts";
import { readLoad, type ServerLoad } from "./metrics.ts";
import { type Server, ServerError } from "./server.ts";

/** How often the server is looked at. */
const lookMs = 500;
/** A look that takes longer counts as none. */
const lookTimeoutMs = 5_000;
/** After so long without an answer the server is taken for dead. */
const silenceMs = 15_000;
/** So many looks in a row that find nobody at the address, or a server that calls itself dead. */
const mostBadLooks = 2;

const unknownLoad: ServerLoad = {
  ...{ runningRequests: 0, waitingRequests: 0, cacheUse: 0, cachePages: 0 },
  ...{ steps: undefined, reusedTokens: 0, preemptions: 0 },
};

export interface WatchOptions {
  /** A server that has requests and takes no step for so long is stuck, ms. */
  stallMs: number;
  /** Requests of ours that the server has. */
  running(): number;
  /** Called once. */
  onDead(error: EngineError): void;
}

/**
 * Looks at a server's health and load.
 *
 *   well    → absent   nobody answers, or the health endpoint says 503.
 *           → stuck    it has requests, and neither does its count of steps grow nor does a word come.
 *   absent  → well     it answers again.
 *           → dead     twice in a row, or after 15 s of silence.
 *   stuck   → well     a step.
 *           → dead     after `stallMs`.
 *
 * A health endpoint is not enough: vLLM's says 200 while a rank of the group is dead or hangs.
 */
export class ServerWatch {
  /** As of the last look. */
  load: ServerLoad = unknownLoad;
  /** Of `load`, how many requests were ours. */
  ownAtLook = 0;
  /** Requests that waited at the last two looks: one that has only just come waits for a step. */
  queued = 0;
  readonly #server: Server;
  readonly #options: WatchOptions;
  readonly #stopped = new AbortController();
  #words = 0;
  #progress = "";
  #progressAt = performance.now();
  #answeredAt = performance.now();
  #badLooks = 0;
  #hasMetrics = true;
  #healthPath = "/health";

  constructor(server: Server, options: WatchOptions) {
    this.#server = server;
    this.#options = options;
  }

  /** Looks until it is stopped. */
  async run(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await this.look();
      await sleep(lookMs, undefined, { signal }).catch(() => {});
    }
  }

  stop(): void {
    this.#stopped.abort();
  }

  /** Steps that the server tells of, or words that have come: either grows while it works. */
  get steps(): number {
    return this.load.steps ?? this.#words;
  }

  /** A word has come from the server. */
  heard(): void {
    this.#words++;
    this.#answeredAt = performance.now();
  }

  /** Whether the server takes requests; a dead one is told of before this resolves. */
  async look(): Promise<boolean> {
    try {
      await this.#readHealth();
      await this.#readLoad();
      this.#badLooks = 0;
      this.#answeredAt = performance.now();
      this.#judgeProgress();
      return true;
    } catch (error) {
      this.#judgeAbsence(error);
      return false;
    }
  }

  async #readHealth(): Promise<void> {
    try {
      await this.#server.getText(this.#healthPath, lookTimeoutMs);
    } catch (error) {
      if (!(error instanceof ServerError) || error.status !== 404) throw error;
      // Not every server has one; each says which models it serves.
      this.#healthPath = "/v1/models";
      await this.#server.getText(this.#healthPath, lookTimeoutMs);
    }
  }

  async #readLoad(): Promise<void> {
    if (!this.#hasMetrics) return;
    const own = this.#options.running();
    try {
      const load = readLoad(await this.#server.getText("/metrics", lookTimeoutMs));
      this.queued = Math.min(this.load.waitingRequests, load.waitingRequests);
      this.load = load;
      this.ownAtLook = Math.max(own, this.#options.running());
    } catch (error) {
      const status = error instanceof ServerError ? error.status : undefined;
      if (status !== 404 && status !== 501) throw error;
      this.#hasMetrics = false;
    }
  }

  #judgeProgress(): void {
    const { runningRequests, waitingRequests, steps } = this.load;
    // Of what others have there nothing is heard: only a count of steps tells.
    const others = steps === undefined ? 0 : runningRequests + waitingRequests;
    const isBusy = this.#options.running() > 0 || others > 0;
    const progress = `${steps} ${this.#words}`;
    const now = performance.now();
    if (!isBusy || progress !== this.#progress) {
      this.#progress = progress;
      this.#progressAt = now;
      return;
    }
    if (now - this.#progressAt < this.#options.stallMs) return;
    this.#die(
      `makes no progress: it has requests, and took no step for ${this.#options.stallMs} ms`,
    );
  }

  #judgeAbsence(error: unknown): void {
    const { failure, status } = error instanceof ServerError ? error : { failure: "", status: 0 };
    this.#badLooks += failure === "gone" || status === 503 ? 1 : 0;
    const isSilent = performance.now() - this.#answeredAt > silenceMs;
    if (this.#badLooks < mostBadLooks && !isSilent) return;
    const why = error instanceof Error ? error.message : String(error);
    this.#die(`is lost: ${why}`, error);
  }

  #die(what: string, cause?: unknown): void {
    if (this.#stopped.signal.aborted) return;
    this.stop();
    const message = `The server at ${this.#server.url} ${what.replace(/\.$/, "")}.`;
    this.#options.onDead(new EngineError("server_lost", message, { cause }));
  }
}
