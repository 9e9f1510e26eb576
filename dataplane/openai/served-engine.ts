import { setTimeout as sleep } from "node:timers/promises";
import { backoffMs } from "../backoff.ts";
import type {
  Engine,
  EngineDescription,
  EngineEvent,
  EngineHealth,
  FinishReason,
  GenerateRequest,
} from "../engine/engine.ts";
import { EngineError } from "../engine/engine-error.ts";
import { streamCompletion } from "./completion.ts";
import { eventsOf, seedAfter } from "./pieces.ts";
import { checkServedRequest, refusalOf } from "./refusals.ts";
import { type Server, ServerError } from "./server.ts";
import { ServerWatch } from "./server-watch.ts";

export interface ServedEngineOptions {
  server: Server;
  /** The name of the model at the server. */
  model: string;
  /** Whether token ids go in and out (vLLM), or text. */
  speaks: "ids" | "text";
  /** Tokens of prompt and answer together, at most. */
  contextLength: number;
  /** Tokens that there are; not known where the server's own tokenizer is trusted to know. */
  vocabularySize?: number | undefined;
  /** Ranks of the server's group, as far as we were told. */
  ranks: number;
  slots: number;
  /** A server that has requests and takes no step for so long is stuck, ms. */
  stallMs: number;
}

/** Attempts in a row that bring not a word, before a request is given up. */
const mostAttempts = 8;
/** With more of its cache in use than this share, the server would soon have to take requests out again. */
const fullCache = 0.95;

/**
 * An engine behind an OpenAI-compatible server. A request whose connection breaks while the server is
 * well goes on after the last token that has come, as after a takeover; when the server is dead or stuck,
 * the engine has failed, and all that run with it.
 */
export class ServedEngine implements Engine {
  readonly #options: ServedEngineOptions;
  readonly #watch: ServerWatch;
  readonly #ended = new AbortController();
  readonly #listeners: ((error: Error) => void)[] = [];
  #state: "ready" | "failed" | "closed" = "ready";
  #failure: EngineError | undefined;
  #running = 0;

  constructor(options: ServedEngineOptions) {
    this.#options = options;
    this.#watch = new ServerWatch(options.server, {
      stallMs: options.stallMs,
      running: () => this.#running,
      onDead: (error) => this.#fail(error),
    });
    void this.#watch.run();
  }

  describe(): EngineDescription {
    const { model, contextLength, ranks, slots } = this.#options;
    return { model, contextLength, ranks, slots };
  }

  async *generate(request: GenerateRequest): AsyncGenerator<EngineEvent, void, undefined> {
    checkServedRequest(request, this.#options);
    if (this.#failure !== undefined) throw this.#failure;
    this.#running++;
    try {
      const reason = yield* this.#answer(request);
      yield { type: "finish", reason };
    } finally {
      this.#running--;
    }
  }

  async *#answer(request: GenerateRequest): AsyncGenerator<EngineEvent, FinishReason> {
    const { promptTokens, maxTokens, signal } = request;
    const room = this.#options.contextLength - promptTokens.length;
    const tokens = [...request.emittedTokens];
    let emittedText = request.text?.emitted ?? "";
    for (let failures = 0; ; ) {
      if (signal.aborted) return "cancelled";
      if (tokens.length >= Math.min(maxTokens, room)) return "length";
      try {
        for await (const event of this.#attempt(request, tokens, emittedText)) {
          if (event.type === "finish") return event.reason;
          failures = 0;
          tokens.push(event.token);
          emittedText += event.text ?? "";
          yield event;
          if (signal.aborted) return "cancelled";
        }
      } catch (error) {
        if (signal.aborted) return "cancelled";
        failures++;
        await this.#recover(request, error, failures);
      }
    }
  }

  /** One completion by the server, of what is left after `tokens`. */
  async *#attempt(
    request: GenerateRequest,
    tokens: readonly number[],
    emittedText: string,
  ): AsyncGenerator<EngineEvent> {
    const { server, model, speaks, contextLength, stallMs } = this.#options;
    const { promptTokens, maxTokens, sampling, text, cacheScope } = request;
    const left = Math.min(maxTokens, contextLength - promptTokens.length) - tokens.length;
    const prompt = speaks === "ids" ? [...promptTokens, ...tokens] : text?.prompt + emittedText;
    const seed = seedAfter(sampling.seed, tokens.length);
    const asked = { model, prompt, maxTokens: left, sampling: { ...sampling, seed }, cacheScope };
    const over = new AbortController();
    const signal = AbortSignal.any([request.signal, this.#ended.signal, over.signal]);
    // The server may have lost it, or the network the connection, while all the others go on.
    const silence = setTimeout(() => {
      if (this.#watch.queued > 0) silence.refresh();
      else over.abort(new ServerError("retryable", `no word came for ${stallMs} ms`));
    }, stallMs);
    try {
      for await (const piece of streamCompletion(server, asked, signal)) {
        silence.refresh();
        this.#watch.heard();
        yield* eventsOf(piece, speaks);
      }
    } finally {
      clearTimeout(silence);
      over.abort();
    }
  }

  /** Waits until another attempt makes sense. Throws EngineError when none does. */
  async #recover(request: GenerateRequest, error: unknown, failures: number): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (!(error instanceof ServerError)) throw error;
    if (error.failure === "fatal") {
      const refusal = refusalOf(request.id, error);
      if (refusal.code === "refused") this.#fail(refusal);
      throw refusal;
    }
    const isWell = error.failure === "throttled" || (await this.#watch.look());
    if (!isWell) await this.#watch.look();
    if (this.#failure !== undefined) throw this.#failure;
    if (failures >= mostAttempts) {
      const code = error.failure === "throttled" ? "overloaded" : "server_lost";
      throw new EngineError(code, `Request ${request.id}: ${error.message}`, { cause: error });
    }
    const signal = AbortSignal.any([request.signal, this.#ended.signal]);
    await sleep(backoffMs(failures - 1, 100, 5_000), undefined, { signal }).catch(() => {});
    if (this.#failure !== undefined) throw this.#failure;
  }

  health(): EngineHealth {
    const { load, ownAtLook, queued } = this.#watch;
    const { runningRequests, waitingRequests, cacheUse, cachePages } = load;
    // Others use the server too; what of it is ours has changed since the look.
    const others = Math.max(0, runningRequests + waitingRequests - ownAtLook);
    const isFull = queued > 0 || cacheUse >= fullCache;
    const waiting = Math.min(queued, this.#running);
    return {
      state: this.#state,
      runningTurns: this.#running - waiting,
      waitingTurns: waiting,
      room: isFull ? 0 : Math.max(0, this.#options.slots - this.#running - others),
      // They are the server's own, and cannot be told apart from here.
      ranks: [],
      steps: this.#watch.steps,
      cache: {
        pages: cachePages,
        usedPages: Math.round(cachePages * cacheUse),
        reusedTokens: load.reusedTokens,
        preemptions: load.preemptions,
      },
    };
  }

  onFailure(listener: (error: Error) => void): void {
    if (this.#failure !== undefined && this.#state === "failed") listener(this.#failure);
    else this.#listeners.push(listener);
  }

  /** The server is not ours, and runs on. */
  async close(): Promise<void> {
    if (this.#state === "ready") this.#state = "closed";
    this.#end(new EngineError("closed", "The engine was closed."));
  }

  #fail(error: EngineError): void {
    if (this.#state !== "ready") return;
    this.#state = "failed";
    this.#end(error);
    for (const listener of this.#listeners.splice(0)) listener(error);
  }

  #end(error: EngineError): void {
    this.#failure ??= error;
    this.#watch.stop();
    this.#ended.abort();
  }
}
