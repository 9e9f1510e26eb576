import type { Span, SpanStart } from "../../events/tracing/tracing.ts";
import { turnTraceOf } from "../../events/tracing/turn-trace.ts";
import type { Deps } from "./deps.ts";
import { toAxonError } from "./failures.ts";
import type { RequestLog } from "./request-log.ts";
import { traceKeys } from "./stack.ts";

/** Runs work under a span, where it is traced. What the work throws marks the span, and goes on. */
export async function inSpan<Result>(
  { tracing }: Pick<Deps, "tracing">,
  start: (SpanStart & { name: string }) | undefined,
  log: RequestLog,
  work: (span: Span | undefined) => Promise<Result>,
): Promise<Result> {
  const span = start && tracing?.start(start.name, start);
  if (span === undefined) return work(undefined);
  log.add(traceKeys(span));
  try {
    return await work(span);
  } catch (error) {
    span.fail(toAxonError(error).code);
    throw error;
  } finally {
    span.end();
  }
}

/** Runs work for a turn under a span of the turn's own trace, where that turn is traced. */
export async function inTurnTrace<Result>(
  deps: Pick<Deps, "tracing" | "redis">,
  turnId: string,
  start: Omit<SpanStart, "parent"> & { name: string },
  log: RequestLog,
  work: (span: Span | undefined) => Promise<Result>,
): Promise<Result> {
  if (deps.tracing === undefined) return work(undefined);
  const { asked: parent } = await turnTraceOf(deps.redis, turnId);
  return inSpan(deps, parent && { ...start, parent }, log, work);
}
