import { createHash } from "node:crypto";
import { SendMessageCommand } from "@aws-sdk/client-sqs";
import { AxonError } from "../../../events/errors.ts";
import { type ChatMessage, messageBody, type SentJob } from "../../../events/jobs.ts";
import { turnKey, turnSentKey } from "../../../events/redis-keys.ts";
import { sparseSampling } from "../../../events/sampling.ts";
import { type TraceContext, traceparentOf } from "../../../events/tracing/trace-context.ts";
import type { Span } from "../../../events/tracing/tracing.ts";
import { noteTurnTrace, turnTraceOf } from "../../../events/tracing/turn-trace.ts";
import { isTerminal } from "../../../events/turn.ts";
import { type AdmissionDeps, admit, confirm, leave, tenantOf } from "../admission/admission.ts";
import type { Deps } from "../deps.ts";
import { sentTtlSeconds } from "../lifetimes.ts";
import type { Model } from "../models.ts";
import type { RequestLog } from "../request-log.ts";
import { conversations, load, type RequestedTurn, turns } from "../streams.ts";
import { type ContextDeps, contextAfter, contextBytes, jsonBytes } from "./context.ts";

/** What sending a job needs that admission has let go. */
export type JobDeps = ContextDeps & AdmissionDeps & Pick<Deps, "sqs" | "models">;

/**
 * Sends a turn's job to the queue of its revision, and leaves a mark that it was sent. Sending it
 * twice is harmless: a leader claims the turn, and the second claim is refused. `asked` is the span of the
 * turn's request; who does not know it leaves it out, and it is looked up where turns are traced.
 * @throws AxonError internal when the revision is in the catalog no more.
 */
export async function sendJob(
  deps: Pick<Deps, "sqs" | "models" | "redis" | "tracing">,
  turn: RequestedTurn,
  exchanges: readonly ChatMessage[][],
  asked?: TraceContext,
): Promise<void> {
  const model = deps.models.withRevision(turn.revision);
  if (model === undefined) {
    throw new AxonError(
      "internal",
      `No queue serves revision ${turn.revision}: keep it in AXON_MODELS until its turns have ended.`,
    );
  }
  const job = jobOf(model, turn, exchanges);
  const sentAt = Date.now();
  const span = await sendingSpan(deps, turn, model.queueUrl, asked);
  try {
    const { MessageId } = await deps.sqs.send(
      new SendMessageCommand({
        QueueUrl: model.queueUrl,
        MessageBody: messageBody(job),
        // A fair queue: where one tenant has a backlog, the jobs of the others go before it.
        MessageGroupId: messageGroupOf(turn.tenantId),
        ...(span && { MessageAttributes: traceAttribute(span.context) }),
      }),
    );
    span?.set({ "messaging.message.id": MessageId });
  } catch (error) {
    span?.fail(error instanceof Error ? error.name : "unknown");
    throw error;
  } finally {
    span?.end();
  }
  await deps.redis.set(turnSentKey(turn.turnId), String(sentAt), "EX", sentTtlSeconds);
}

/** The span of a job's sending. Noted before the job is sent, so that it is there for its leader. */
async function sendingSpan(
  { tracing, redis }: Pick<Deps, "redis" | "tracing">,
  { turnId }: RequestedTurn,
  queueUrl: string,
  asked: TraceContext | undefined,
): Promise<Span | undefined> {
  if (tracing === undefined) return undefined;
  const parent = asked ?? (await turnTraceOf(redis, turnId)).asked;
  if (parent === undefined) return undefined;
  const queue = queueUrl.split("/").at(-1) ?? "";
  const span = tracing.start(`send ${queue}`, {
    kind: "producer",
    parent,
    attributes: {
      "messaging.system": "aws_sqs",
      "messaging.operation.name": "send",
      "messaging.operation.type": "send",
      "messaging.destination.name": queue,
      "axon.turn.id": turnId,
    },
  });
  await noteTurnTrace(redis, turnId, { job: span.context });
  return span;
}

/** What is not sampled says so, too: its leader need not look for a trace. */
const traceAttribute = (context: TraceContext) => ({
  traceparent: { DataType: "String", StringValue: traceparentOf(context) },
});

/** SQS takes up to 128 letters, digits and punctuation marks. */
function messageGroupOf(tenantId: string): string {
  const name = tenantOf(tenantId);
  return name.length <= 128 ? name : createHash("sha256").update(name).digest("hex");
}

function jobOf(model: Model, turn: RequestedTurn, exchanges: readonly ChatMessage[][]): SentJob {
  const { turnId, tenantId, conversationId, revision, sampling, requestedAt, correlationId } = turn;
  const prompt: ChatMessage = { role: "user", content: turn.prompt };
  const named = {
    version: 1,
    ...{ turnId, tenantId, conversationId, revision, requestedAt, correlationId },
    sampling: sparseSampling(sampling),
    ...(turn.priority !== "interactive" && { priority: turn.priority }),
  } as const;
  if (turn.promptFormat !== undefined) {
    return { ...named, messages: [prompt], promptFormat: turn.promptFormat };
  }
  // Who keeps the conversation may instruct the model, too.
  const isInstructed = turn.context?.some(({ role }) => role === "system") ?? false;
  const system: ChatMessage[] =
    model.systemPrompt === undefined || isInstructed
      ? []
      : [{ role: "system", content: model.systemPrompt }];
  if (turn.context !== undefined) {
    return { ...named, messages: [...system, ...turn.context, prompt] };
  }
  // Only bytes are counted here; the worker, which has the tokenizer, fits it into the model's context.
  let bytes = jsonBytes([...system, prompt]);
  const fitting: ChatMessage[][] = [];
  for (const exchange of exchanges.toReversed()) {
    bytes += jsonBytes(exchange);
    if (bytes > contextBytes) break;
    fitting.unshift(exchange);
  }
  return { ...named, messages: [...system, ...fitting.flat(), prompt] };
}

/** What `sendMissingJob` found. */
export type JobOutcome =
  /** The job is on its way again. */
  | "sent"
  /** It was sent not long ago. */
  | "marked"
  /** Admission holds the turn: it is not its turn yet. */
  | "waiting"
  /** A leader runs the turn. */
  | "held"
  /** A turn before it has ended for its reader, and not yet in the record: the next sweep sends the job. */
  | "early"
  /** The turn needs no job any more. */
  | "ended";

/**
 * Sends the job of a turn that waits for one, whoever failed to send it before. What admission has lost is
 * taken in again on the way; so the caller names open turns in the order in which they were asked.
 */
export async function sendMissingJob(
  deps: JobDeps,
  { turnId, revision }: { turnId: string; revision: string },
  log: RequestLog,
  { ignoreMarker = false }: { ignoreMarker?: boolean } = {},
): Promise<JobOutcome> {
  // The mark goes, and not only its meaning: a leader that seems to have the turn may be dead, and
  // the next sweep must not take the lost job for a waiting one.
  if (ignoreMarker) await deps.redis.del(turnSentKey(turnId));
  const found = await underWay(deps, turnId);
  const standing = await confirm(deps, revision, turnId);
  if (found !== undefined && standing === "in flight") return found;
  if (found === undefined && standing === "held") return "waiting";
  const { state } = await load(deps.log, turns, turnId);
  if (state.status === "none") return "ended";
  if (isTerminal(state)) {
    await sendReleased(deps, await leave(deps, revision, turnId), log);
    return "ended";
  }
  const { queue, released } = await admit(deps, state, { isUnderWay: found !== undefined });
  await sendReleased(deps, released, log);
  if (found !== undefined) return found;
  if (queue !== undefined) return "waiting";
  try {
    await sendWithContext(deps, state);
    return "sent";
  } catch (error) {
    if (!(error instanceof ContextIncomplete)) throw error;
    log.warn("a job waits for the turn before it", { error });
    return "early";
  }
}

async function underWay(
  deps: Pick<Deps, "redis">,
  turnId: string,
): Promise<"marked" | "held" | undefined> {
  if (await wasSent(deps, turnId)) return "marked";
  return (await hasLease(deps, turnId)) ? "held" : undefined;
}

/** As many jobs are sent side by side. */
const sendsAtOnce = 10;

/**
 * Sends the jobs of turns that admission has released. One that cannot be sent is in flight all the same,
 * and is sent by the sweep. A turn that has ended leaves, and the next one takes its place.
 */
export async function sendReleased(
  deps: JobDeps,
  turnIds: readonly string[],
  log: RequestLog,
): Promise<void> {
  const waiting = [...turnIds];
  async function sendEach(): Promise<void> {
    for (let turnId = waiting.shift(); turnId !== undefined; turnId = waiting.shift()) {
      try {
        const { state } = await load(deps.log, turns, turnId);
        if (state.status === "none")
          log.error("a turn was released that is not in the log", { turnId });
        else if (isTerminal(state)) waiting.push(...(await leave(deps, state.revision, turnId)));
        else await sendWithContext(deps, state);
      } catch (error) {
        log.warn("a released job is left to the sweep", { turnId, error });
      }
    }
  }
  await Promise.all(Array.from({ length: sendsAtOnce }, sendEach));
}

async function sendWithContext(deps: JobDeps, turn: RequestedTurn): Promise<void> {
  await sendJob(deps, turn, await exchangesBefore(deps, turn));
}

/** What was said before a turn is not all known yet: another time its job can be sent. */
class ContextIncomplete extends Error {
  override readonly name = "ContextIncomplete";
}

/**
 * What was said before a turn that is in the log. When it was asked for, the turns before it had ended; a
 * job without one of them would be answered with other words.
 * @throws ContextIncomplete where Redis has lost such an end, and its report has yet to come.
 */
export async function exchangesBefore(
  deps: JobDeps,
  turn: RequestedTurn,
): Promise<ChatMessage[][]> {
  // A turn that was asked for with its context needs nothing of what its conversation holds.
  if (turn.context !== undefined || turn.promptFormat !== undefined) return [];
  const earlier = await turnsBefore(deps, turn.conversationId, turn.turnId);
  const { exchanges, runningTurnId } = await contextAfter(deps, turn.conversationId, earlier);
  if (runningTurnId === undefined) return exchanges;
  throw new ContextIncomplete(`The end of ${runningTurnId}, before ${turn.turnId}, is not known.`);
}

/** The turns that a turn's context is made of. */
async function turnsBefore(
  deps: Pick<Deps, "log">,
  conversationId: string,
  turnId: string,
): Promise<string[]> {
  const { state } = await load(deps.log, conversations, conversationId);
  const turnIds = state.status === "none" ? [] : state.turnIds;
  const index = turnIds.indexOf(turnId);
  return turnIds.slice(0, index === -1 ? undefined : index);
}

export async function wasSent({ redis }: Pick<Deps, "redis">, turnId: string): Promise<boolean> {
  return (await redis.exists(turnSentKey(turnId))) === 1;
}

/** Whether a living leader holds the turn, by the clock of Redis, which its lease is measured by. */
async function hasLease({ redis }: Pick<Deps, "redis">, turnId: string): Promise<boolean> {
  const [leaseUntilMs, [seconds, microseconds]] = await Promise.all([
    redis.hget(turnKey(turnId), "leaseUntilMs"),
    redis.time(),
  ]);
  const nowMs = Number(seconds) * 1_000 + Number(microseconds) / 1_000;
  return Number(leaseUntilMs ?? 0) > nowMs;
}
