import { randomBytes } from "node:crypto";
import type {
  CheckpointDescription,
  Engine,
  EngineEvent,
  EngineHealth,
  GenerateRequest,
  WeightFormat,
} from "./engine.ts";
import { EngineCounters } from "./engine-counters.ts";
import { EngineError } from "./engine-error.ts";
import { EventQueue } from "./event-queue.ts";
import { RankGroup, type Transport } from "./rank-group.ts";
import { checkRequest } from "./request-check.ts";

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
export async function startEmbeddedEngine(options: EmbeddedEngineOptions): Promise<EmbeddedEngine> {
  checkOptions(options);
  const { formingTimeoutMs, listen, ...given } = options;
  const counters = new EngineCounters();
  const { group, description } = await RankGroup.form({
    weights: "int8",
    epoch: 0,
    secret: randomBytes(32).toString("hex"),
    host: listen?.host ?? "127.0.0.1",
    port: listen?.port ?? 0,
    formingTimeoutMs: formingTimeoutMs ?? 60_000,
    counters: counters.memory,
    ...given,
  });
  return new EmbeddedEngine(group, description, counters);
}

/** The engine as its main thread has it: requests go to rank 0's loop, and events come back. */
class EmbeddedEngine implements Engine {
  readonly #group: RankGroup;
  readonly #description: CheckpointDescription;
  readonly #counters: EngineCounters;
  /** Requests that have not ended, by id. */
  readonly #queues = new Map<number, EventQueue<EngineEvent>>();
  readonly #listeners: ((error: Error) => void)[] = [];
  #failure: EngineError | undefined;
  #lastId = 0;

  constructor(group: RankGroup, description: CheckpointDescription, counters: EngineCounters) {
    this.#group = group;
    this.#description = description;
    this.#counters = counters;
    group.onFailure((error) => this.#fail(error));
    group.onEvents((events) => {
      for (const { id, event } of events) {
        this.#queues.get(id)?.push(event);
        if (event.type === "finish") this.#queues.delete(id);
      }
    });
  }

  describe(): CheckpointDescription {
    return this.#description;
  }

  async *generate(request: GenerateRequest): AsyncGenerator<EngineEvent, void, undefined> {
    checkRequest(request, this.#description);
    if (this.#failure !== undefined) throw this.#failure;
    const queue = new EventQueue<EngineEvent>();
    this.#lastId += 1;
    const id = this.#lastId;
    this.#queues.set(id, queue);
    const { signal, ...rest } = request;
    this.#group.tell({ kind: "add", id, request: rest });
    // What the loop says of it after this is not heard any more.
    const cancel = () => {
      if (!this.#queues.delete(id)) return;
      this.#group.tell({ kind: "cancel", id });
      queue.push({ type: "finish", reason: "cancelled" });
    };
    signal.addEventListener("abort", cancel);
    if (signal.aborted) cancel();
    try {
      for (;;) {
        for (const event of await queue.take()) {
          yield event;
          if (event.type === "finish") return;
        }
      }
    } finally {
      signal.removeEventListener("abort", cancel);
      cancel();
    }
  }

  health(): EngineHealth {
    const { steps, stepSeconds, runningTurns, ...cache } = this.#counters.read();
    // The loop may not know yet of those that came or left just now.
    const running = Math.min(runningTurns, this.#queues.size);
    return {
      state: this.#group.state,
      runningTurns: running,
      waitingTurns: this.#queues.size - running,
      room: Math.max(0, this.#description.slots - this.#queues.size),
      ranks: this.#group.ranks,
      steps,
      stepSeconds,
      cache,
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

  #fail(error: EngineError): void {
    this.#endTurns(error);
    for (const listener of this.#listeners.splice(0)) listener(error);
  }

  #endTurns(error: EngineError): void {
    this.#failure ??= error;
    for (const queue of this.#queues.values()) queue.fail(this.#failure);
    this.#queues.clear();
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
