import { randomBytes } from "node:crypto";
import type {
  Engine,
  EngineDescription,
  EngineEvent,
  EngineHealth,
  GenerateRequest,
  WeightFormat,
} from "./engine.ts";
import { EngineError, toEngineError } from "./engine-error.ts";
import { EventQueue } from "./event-queue.ts";
import { RankGroup, type Transport } from "./rank-group.ts";
import { checkRequest } from "./request-check.ts";
import { Scheduler } from "./scheduler.ts";

export interface EmbeddedEngineOptions {
  /** A checkpoint folder in the layout of Hugging Face. */
  modelDir: string;
  /** Ranks that the model is split over; what divides its heads and MLP columns. */
  ranks: number;
  /** How the other ranks run. A single rank has nobody to talk to. */
  transport: Transport;
  /** Where ranks on other hosts join, for the transport "remote". */
  listen?: { host: string; port: number };
  /** Requests that run at the same time. */
  slots: number;
  /** Tokens that one step computes at most: bounds how long a prompt can delay running answers. */
  tokensPerStep: number;
  /** How weights are kept; int8 is several times as fast, f32 is exact. By default int8. */
  weights?: WeightFormat;
  /** Shorter than the model's own, if given. */
  contextLength?: number;
  /** Memory for keys and values, of all ranks together; taken only as it is used. By default 1 GiB. */
  cacheBytes?: number;
  /** What ranks prove to know when they join. By default a random one. */
  secret?: string;
  /** Raised by the caller each time it forms the group anew. */
  epoch?: number;
  /** How long starting and loading may take. */
  formingTimeoutMs?: number;
}

/**
 * Starts all ranks and resolves when each has loaded its share of the model.
 * Throws EngineError: "invalid_request" for options, "invalid_checkpoint", "unsupported_model",
 * "forming_failed".
 */
export async function startEmbeddedEngine(options: EmbeddedEngineOptions): Promise<Engine> {
  checkOptions(options);
  const { formingTimeoutMs, listen, ...given } = options;
  const { group, description, pages } = await RankGroup.form({
    weights: "int8",
    epoch: 0,
    secret: randomBytes(32).toString("hex"),
    host: listen?.host ?? "127.0.0.1",
    port: listen?.port ?? 0,
    formingTimeoutMs: formingTimeoutMs ?? 60_000,
    ...given,
  });
  const { slots, contextLength, eosTokens } = description;
  const { tokensPerStep } = options;
  const tokensPerSharedStep = Math.ceil(tokensPerStep * sharedShare);
  const limits = { slots, tokensPerStep, tokensPerSharedStep, contextLength, pages, eosTokens };
  return new EmbeddedEngine(group, description, new Scheduler(limits));
}

/** Of a step's tokens, the share that it may have while others decode: prompts make them wait. */
const sharedShare = 1 / 4;

class EmbeddedEngine implements Engine {
  readonly #group: RankGroup;
  readonly #description: EngineDescription;
  readonly #scheduler: Scheduler;
  readonly #queues = new Set<EventQueue<EngineEvent>>();
  readonly #listeners: ((error: Error) => void)[] = [];
  #failure: EngineError | undefined;
  #isPumping = false;
  #steps = 0;

  constructor(group: RankGroup, description: EngineDescription, scheduler: Scheduler) {
    this.#group = group;
    this.#description = description;
    this.#scheduler = scheduler;
    group.onFailure((error) => this.#fail(error));
  }

  describe(): EngineDescription {
    return this.#description;
  }

  async *generate(request: GenerateRequest): AsyncGenerator<EngineEvent, void, undefined> {
    checkRequest(request, this.#description);
    if (this.#failure !== undefined) throw this.#failure;
    const queue = new EventQueue<EngineEvent>();
    this.#queues.add(queue);
    const sequence = this.#scheduler.add(request, (event) => queue.push(event));
    const cancel = () => {
      this.#scheduler.cancel(sequence);
      void this.#pump();
    };
    request.signal.addEventListener("abort", cancel);
    if (request.signal.aborted) cancel();
    try {
      void this.#pump();
      for (;;) {
        for (const event of await queue.take()) {
          yield event;
          if (event.type === "finish") return;
        }
      }
    } finally {
      request.signal.removeEventListener("abort", cancel);
      this.#queues.delete(queue);
      cancel();
    }
  }

  health(): EngineHealth {
    return {
      state: this.#group.state,
      runningTurns: this.#scheduler.runningCount,
      waitingTurns: this.#scheduler.waitingCount,
      ranks: this.#group.ranks,
      steps: this.#steps,
      cache: this.#scheduler.cache,
    };
  }

  onFailure(listener: (error: Error) => void): void {
    if (this.#failure !== undefined && this.#group.state === "failed") listener(this.#failure);
    else this.#listeners.push(listener);
  }

  async close(): Promise<void> {
    this.#endTurns(new EngineError("closed", "The engine was closed."));
    await this.#group.close();
  }

  /** Runs steps as long as there is something to do. */
  async #pump(): Promise<void> {
    if (this.#isPumping) return;
    this.#isPumping = true;
    try {
      // Requests that arrive together start together.
      await Promise.resolve();
      while (this.#failure === undefined) {
        const step = this.#scheduler.schedule();
        if (step === undefined) break;
        const tokens = await this.#group.step(step.plan, step.draws);
        this.#steps += 1;
        this.#scheduler.postprocess(step, tokens);
      }
    } catch (error) {
      this.#endTurns(toEngineError(error));
    } finally {
      this.#isPumping = false;
    }
  }

  #fail(error: EngineError): void {
    this.#endTurns(error);
    for (const listener of this.#listeners.splice(0)) listener(error);
  }

  #endTurns(error: EngineError): void {
    this.#failure ??= error;
    for (const queue of this.#queues) queue.fail(this.#failure);
  }
}

function checkOptions(options: EmbeddedEngineOptions): void {
  const { ranks, slots, tokensPerStep, transport, secret } = options;
  if (transport === "remote" && secret === undefined) {
    throw new EngineError("invalid_request", "Ranks on other hosts need a secret to join with.");
  }
  for (const [name, value] of Object.entries({ ranks, slots, tokensPerStep })) {
    if (Number.isInteger(value) && value > 0) continue;
    throw new EngineError("invalid_request", `${name} has to be an integer above 0: ${value}.`);
  }
  if (tokensPerStep >= slots) return;
  const message = `tokensPerStep (${tokensPerStep}) must not be below slots (${slots}).`;
  throw new EngineError("invalid_request", message);
}
