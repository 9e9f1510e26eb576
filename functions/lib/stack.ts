import middy from "@middy/core";
import type { Context } from "aws-lambda";
import type { AxonError } from "../../events/errors.ts";
import type { Span, SpanStart } from "../../events/tracing/tracing.ts";
import type { Deps } from "./deps.ts";
import { type InvocationMeter, invocationMeter } from "./emf.ts";
import { toAxonError } from "./failures.ts";
import { tellIssue } from "./issues.ts";
import { type LogKeys, type RequestLog, requestLog } from "./request-log.ts";

/** What every handler gets beside its event. */
export interface Invocation extends Context {
  log: RequestLog;
  /** Of the invocation, where it is traced. */
  span: Span | undefined;
  meter: InvocationMeter;
}

/** What the stack itself needs; where metrics go nowhere, there is no `metrics`. */
export type StackDeps = Pick<Deps, "logger" | "metrics" | "tracing">;

let isCold = true;

/** Where one kind of trigger differs from another. */
export interface Trigger<Event, Result> {
  /** What the event says about itself, for the log lines. */
  keysOf(event: Event): LogKeys;
  /** How a failure is answered. Without it the invocation fails, and its source tries again. */
  refuse?(error: AxonError, event: Event, log: RequestLog): Result | Promise<Result>;
  /** The span of an invocation. Where there is none, its parts have their own: those of a batch. */
  spanOf?(event: Event): SpanStart & { name: string };
}

/**
 * Spans are sent before the invocation ends: what waits in memory then is frozen with it, perhaps for good.
 * So long may that take; what is not sent by then goes with the next invocation, or is lost.
 */
const flushMs = 200;

/**
 * The one stack under all handlers: a log line for each invocation, and one way for failures to
 * become answers. What a trigger's event means is parsed by the trigger's own file (socket.ts,
 * http.ts, batches.ts).
 */
export function stack<Event, Result>(
  deps: StackDeps,
  { keysOf, refuse, spanOf }: Trigger<Event, Result>,
  handle: (event: Event, invocation: Invocation) => Promise<Result>,
): (event: Event, context: Context) => Promise<Result> {
  const startedAt = new WeakMap<Invocation, number>();
  const durationMs = (invocation: Invocation) =>
    Math.round(performance.now() - (startedAt.get(invocation) ?? performance.now()));
  const end = ({ meter }: Invocation, ms: number) => {
    meter.measure("Duration", ms);
    if (isCold) meter.measure("ColdStarts", 1);
    isCold = false;
    meter.flush();
  };

  // Every client in `deps` has timeouts of its own, which leave time to answer; middy needs none.
  const handler = middy<Event, Result, Error, Invocation>({ timeoutEarlyInMillis: 0 })
    .before(({ context }) => {
      startedAt.set(context, performance.now());
    })
    .after(({ context }) => {
      const ms = durationMs(context);
      context.log.info("handled", { durationMs: ms });
      end(context, ms);
    })
    .onError(async (request) => {
      const { event, context } = request;
      const error = toAxonError(request.error);
      if (isFault(error)) context.span?.fail(error.code);
      else context.span?.set({ "axon.error.code": error.code });
      const ms = durationMs(context);
      logRefusal(context.log, error, { isAnswered: refuse !== undefined, durationMs: ms });
      end(context, ms);
      if (refuse !== undefined) request.response = await refuse(error, event, context.log);
    })
    .handler(handle);

  const { tracing } = deps;
  function startSpan(event: Event, { awsRequestId }: Context): Span | undefined {
    const start = tracing && spanOf?.(event);
    if (start === undefined) return undefined;
    const faas = { "faas.invocation_id": awsRequestId, "faas.coldstart": isCold };
    return tracing?.start(start.name, { ...start, attributes: { ...start.attributes, ...faas } });
  }

  return async (event, context) => {
    const meter = invocationMeter(deps.metrics, context.functionName);
    const keys = { ...keysOf(event), invocationId: context.awsRequestId };
    const log = requestLog(deps.logger, keys, meter);
    const span = startSpan(event, context);
    if (span !== undefined) log.add(traceKeys(span));
    try {
      return await handler(event, { ...context, meter, log, span });
    } finally {
      span?.end();
      await tracing?.flush(flushMs);
    }
  };
}

export const traceKeys = ({ context: { traceId, spanId } }: Span): LogKeys => ({ traceId, spanId });

/** A fault of ours, and not a refusal. */
const isFault = ({ code }: AxonError): boolean => code === "internal" || code === "unavailable";

/**
 * A refusal is an answer like any other; only a fault of ours is an error that someone must see.
 * @param isAnswered the invocation does not fail by it, so that Lambda says nothing of it.
 */
export function logRefusal(
  log: RequestLog,
  error: AxonError,
  { isAnswered, durationMs }: { isAnswered: boolean; durationMs?: number },
): void {
  const { code, cause } = error;
  const field = error.isUnknownField ? "(unknown)" : error.field;
  const details = { code, field, durationMs };
  log.measure("Refusals", 1, code);
  if (code === "internal") {
    log.error("failed", { ...details, error: cause ?? error });
    if (isAnswered) tellIssue(cause ?? error, log.keys());
  } else if (code === "unavailable")
    log.warn("a store is away", { ...details, error: cause ?? error });
  else log.info("refused", details);
}
