import type { Job, Report } from "../events/jobs.ts";
import type { RedisClient } from "../events/redis-client.ts";
import type { StreamEnd } from "../events/redis-keys.ts";
import { parseTraceparent, type TraceContext } from "../events/tracing/trace-context.ts";
import type { Attributes, Span, Tracing } from "../events/tracing/tracing.ts";
import { noteTurnTrace, turnTraceOf } from "../events/tracing/turn-trace.ts";
import type { Claim } from "./token-stream.ts";

interface TurnTracerOptions {
  tracing: Tracing;
  redis: RedisClient;
  /** Where jobs come from. */
  queueName: string;
  /** What computes: its name as gen_ai's conventions have it, and whether it is another process. */
  provider: string;
  isRemoteEngine: boolean;
  /** The model behind the revision, as the engine calls it. */
  model: string;
  /** Tenants whose prompts and answers may stand in their traces. */
  contentTenants: ReadonlySet<string>;
}

/** The spans of a leader's turns. Turns that are not sampled have none: they cost a look at their job. */
export class TurnTracer {
  readonly #options: TurnTracerOptions;

  constructor(options: TurnTracerOptions) {
    this.#options = options;
  }

  /**
   * @param traceparent what came with the job; a turn that is taken over comes without, and its trace is
   *   found in Redis, as is the leader before this one.
   */
  async begin(job: Job, traceparent: string | undefined): Promise<RunTrace | undefined> {
    const sent = parseTraceparent(traceparent);
    if (sent?.isSampled === false) return undefined;
    const known = await turnTraceOf(this.#options.redis, job.turnId);
    const parent = sent ?? known.job ?? known.asked;
    if (!parent?.isSampled) return undefined;
    return new RunTrace(this.#options, job, parent, known.leader);
  }
}

/**
 * One turn in one leader's hands:
 *
 *   claim turn          the claim alone. It ends at once, so it is recorded even if the leader is killed in
 *                       the middle of the answer; the next leader's claim has a link to it.
 *   process <queue>     from the job to its report.
 *     chat <revision>   the inference, by the gen_ai conventions.
 *
 * A token is no span, and no event either: there is an event at the 1st, 2nd, 4th, 8th, … of them, so an
 * answer of 4,096 tokens has 13, from which its pace can be read.
 */
export class RunTrace {
  readonly #options: TurnTracerOptions;
  readonly #job: Job;
  readonly #claim: Span;
  readonly #process: Span;
  #inference: Span | undefined;
  #startedAt = 0;
  #tokens = 0;
  #nextEvent = 1;

  constructor(
    options: TurnTracerOptions,
    job: Job,
    parent: TraceContext,
    earlier: TraceContext | undefined,
  ) {
    this.#options = options;
    this.#job = job;
    const { tracing, queueName } = options;
    const { turnId, tenantId, correlationId, conversationId, requestedAt } = job;
    const attributes = {
      ...{ "axon.turn.id": turnId, "axon.tenant.id": tenantId },
      ...{ "axon.correlation.id": correlationId, "gen_ai.conversation.id": conversationId },
    };
    this.#process = tracing.start(`process ${queueName}`, {
      ...{ kind: "consumer", parent },
      attributes: {
        ...attributes,
        "messaging.system": "aws_sqs",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": queueName,
        "axon.since_request_ms": Math.max(0, Date.now() - requestedAt),
      },
    });
    this.#claim = tracing.start("claim turn", {
      ...{ kind: "internal", parent, links: earlier === undefined ? [] : [earlier], attributes },
    });
  }

  /** For log lines. */
  get context(): TraceContext {
    return this.#process.context;
  }

  /**
   * The span that a report comes from. That the turn has started is the claim's news: of a leader that is
   * killed there is no other span.
   */
  spanOf({ type }: Report): TraceContext {
    return type === "started" ? this.#claim.context : this.#process.context;
  }

  claimed(claim: Claim): void {
    const { redis, tracing } = this.#options;
    this.#claim.set({ "axon.claim": claim.status });
    if (claim.status === "claimed") {
      const emitted = claim.tokens.length;
      const queuedMs = Math.max(0, claim.startedAt - this.#job.requestedAt);
      this.#claim.set({ "axon.epoch": claim.epoch, "axon.emitted_tokens": emitted });
      this.#process.set({ "axon.epoch": claim.epoch, "axon.queue_wait_ms": queuedMs });
      void noteTurnTrace(redis, this.#job.turnId, { leader: this.#claim.context });
    }
    this.#claim.end();
    // Sent at once: of a leader that is killed it is all that there will be.
    void tracing.flush(0);
  }

  /** The engine is asked. `emitted` tokens are there already. */
  generating(promptTokens: number, emitted: number): void {
    const { tracing, provider, isRemoteEngine, model } = this.#options;
    const { revision } = this.#job;
    this.#startedAt = Date.now();
    this.#inference = tracing.start(`chat ${revision}`, {
      kind: isRemoteEngine ? "client" : "internal",
      parent: this.#process.context,
      attributes: {
        ...requestAttributes(this.#job),
        "gen_ai.provider.name": provider,
        "gen_ai.response.model": model,
        "gen_ai.usage.input_tokens": promptTokens,
        "axon.emitted_tokens": emitted,
      },
    });
  }

  /** One token more. */
  token(): void {
    if (++this.#tokens !== this.#nextEvent) return;
    this.#nextEvent *= 2;
    const ms = Date.now() - this.#startedAt;
    if (this.#tokens === 1) {
      this.#inference?.set({ "gen_ai.response.time_to_first_chunk": ms / 1_000 });
      this.#inference?.event("gen_ai.server.time_to_first_token", { "axon.ms": ms });
    } else {
      this.#inference?.event("axon.tokens", { "axon.tokens": this.#tokens, "axon.ms": ms });
    }
  }

  /** The engine has ended, and its tokens are in the stream. */
  generated(appends: { batches: number; slowestMs: number }): void {
    this.#inference?.set({
      "gen_ai.usage.output_tokens": this.#tokens,
      "axon.append.batches": appends.batches,
      "axon.append.slowest_ms": appends.slowestMs,
    });
  }

  /** How the turn has ended, by this leader. */
  sealed(end: StreamEnd, text: string): void {
    const span = this.#inference;
    span?.set({ "gen_ai.response.finish_reasons": [end.finishReason] });
    if (end.error !== undefined) this.#fail(end.error.code);
    if (this.#options.contentTenants.has(this.#job.tenantId)) {
      span?.event("gen_ai.client.inference.operation.details", contentOf(this.#job, text, end));
    }
    this.#endInference();
  }

  /** `outcome` as in turn-run.ts, or the error that it broke off with. */
  ended(outcome: string | { error: unknown }): void {
    if (typeof outcome === "string") this.#process.set({ "axon.outcome": outcome });
    else this.#fail(codeOf(outcome.error));
    if (outcome === "lost") this.#fail("lost");
    // Of a claim that never came to an answer.
    this.#claim.end();
    this.#endInference();
    this.#process.end();
  }

  #endInference(): void {
    this.#inference?.end();
    this.#inference = undefined;
  }

  #fail(type: string): void {
    this.#inference?.fail(type);
    this.#process.fail(type);
  }
}

/** What does not stand here says nothing: stop strings are the user's text. */
function requestAttributes({ conversationId, revision, sampling, turnId }: Job): Attributes {
  return {
    "gen_ai.operation.name": "chat",
    "gen_ai.conversation.id": conversationId,
    "gen_ai.output.type": "text",
    "gen_ai.response.id": turnId,
    "gen_ai.request.model": revision,
    "gen_ai.request.stream": true,
    "gen_ai.request.max_tokens": sampling.maxTokens,
    "gen_ai.request.temperature": sampling.temperature,
    "gen_ai.request.top_p": sampling.topP,
    "gen_ai.request.top_k": sampling.topK,
    "gen_ai.request.seed": sampling.seed,
    "axon.request.min_p": sampling.minP,
    "axon.request.repetition_penalty": sampling.repetitionPenalty,
  };
}

/**
 * Prompt and answer, as the event of gen_ai's conventions holds them.
 * Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-events.md; its JSON schemas of
 * messages. Span events have no values with a structure, so these are JSON.
 */
function contentOf({ messages }: Job, text: string, end: StreamEnd): Attributes {
  const partsOf = (content: string) => [{ type: "text", content }];
  const input = messages.map(({ role, content }) => ({ role, parts: partsOf(content) }));
  const output = [{ role: "assistant", parts: partsOf(text), finish_reason: end.finishReason }];
  return {
    "gen_ai.input.messages": JSON.stringify(input),
    "gen_ai.output.messages": JSON.stringify(output),
  };
}

function codeOf(error: unknown): string {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown };
  return typeof code === "string" ? code : typeof name === "string" ? name : "unknown";
}
