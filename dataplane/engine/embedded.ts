import { randomBytes } from "node:crypto";
import type {
  Engine,
  EngineDescription,
  EngineEvent,
  EngineHealth,
  GenerateRequest,
} from "./engine.ts";
import { EngineError, toEngineError } from "./engine-error.ts";
import { EventQueue } from "./event-queue.ts";
import { RankGroup } from "./rank-group.ts";
import { checkRequest } from "./request-check.ts";
import { Scheduler } from "./scheduler.ts";

export interface EmbeddedEngineOptions {
  /** A checkpoint folder in the layout of Hugging Face. */
  modelDir: string;
  /** Ranks that the model is split over; what divides its heads and MLP columns. */
  ranks: number;
  /**
   * How the other ranks run and talk: processes over TCP, or threads over shared memory. A single
   * rank has nobody to talk to.
   */
  transport: "tcp" | "threads";
  /** Requests that run at the same time. */
  slots: number;
  /** Tokens that one step computes at most: bounds how long a prompt can delay running answers. */
  tokensPerStep: number;
  /** Shorter than the model's own, if given. */
  contextLength?: number;
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
  const { modelDir, ranks, slots, tokensPerStep } = options;
  const { group, description } = await RankGroup.form(options.transport, {
    modelDir,
    ranks,
    epoch: options.epoch ?? 0,
    secret: options.secret ?? randomBytes(32).toString("hex"),
    host: "127.0.0.1",
    port: 0,
    formingTimeoutMs: options.formingTimeoutMs ?? 60_000,
  });
  const longest = options.contextLength ?? description.contextLength;
  const contextLength = Math.min(longest, description.contextLength);
  const whole = { ...description, contextLength, ranks, slots };
  return new EmbeddedEngine(group, whole, tokensPerStep);
}

class EmbeddedEngine implements Engine {
  readonly #group: RankGroup;
  readonly #description: EngineDescription;
  readonly #scheduler: Scheduler;
  readonly #queues = new Set<EventQueue<EngineEvent>>();
  readonly #listeners: ((error: Error) => void)[] = [];
  #failure: EngineError | undefined;
  #isPumping = false;
  #steps = 0;

  constructor(group: RankGroup, description: EngineDescription, tokensPerStep: number) {
    this.#group = group;
    this.#description = description;
    const { slots, contextLength, eosTokens } = description;
    this.#scheduler = new Scheduler({ slots, tokensPerStep, contextLength, eosTokens });
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

function checkOptions({ ranks, slots, tokensPerStep }: EmbeddedEngineOptions): void {
  for (const [name, value] of Object.entries({ ranks, slots, tokensPerStep })) {
    if (Number.isInteger(value) && value > 0) continue;
    throw new EngineError("invalid_request", `${name} has to be an integer above 0: ${value}.`);
  }
  if (tokensPerStep >= slots) return;
  const message = `tokensPerStep (${tokensPerStep}) must not be below slots (${slots}).`;
  throw new EngineError("invalid_request", message);
}
