import middy from "@middy/core";
import type { Context } from "aws-lambda";
import type { AxonError } from "../../events/errors.ts";
import type { Deps } from "./deps.ts";
import { toAxonError } from "./failures.ts";
import { type LogKeys, type RequestLog, requestLog } from "./request-log.ts";

/** What every handler gets beside its event. */
export interface Invocation extends Context {
  log: RequestLog;
}

/** Where one kind of trigger differs from another. */
export interface Trigger<Event, Result> {
  /** What the event says about itself, for the log lines. */
  keysOf(event: Event): LogKeys;
  /** How a failure is answered. Without it the invocation fails, and its source tries again. */
  refuse?(error: AxonError, event: Event, log: RequestLog): Result | Promise<Result>;
}

/**
 * The one stack under all handlers: a log line for each invocation, and one way for failures to
 * become answers. What a trigger's event means is parsed by the trigger's own file (socket.ts,
 * http.ts, batches.ts).
 */
export function stack<Event, Result>(
  deps: Pick<Deps, "logger">,
  { keysOf, refuse }: Trigger<Event, Result>,
  handle: (event: Event, invocation: Invocation) => Promise<Result>,
): (event: Event, context: Context) => Promise<Result> {
  const startedAt = new WeakMap<Invocation, number>();
  const durationMs = (invocation: Invocation) =>
    Math.round(performance.now() - (startedAt.get(invocation) ?? performance.now()));

  // Every client in `deps` has timeouts of its own, which leave time to answer; middy needs none.
  const handler = middy<Event, Result, Error, Invocation>({ timeoutEarlyInMillis: 0 })
    .before(({ context }) => {
      startedAt.set(context, performance.now());
    })
    .after(({ context }) => {
      context.log.info("handled", { durationMs: durationMs(context) });
    })
    .onError(async (request) => {
      const { event, context } = request;
      const error = toAxonError(request.error);
      logRefusal(context.log, error, durationMs(context));
      if (refuse !== undefined) request.response = await refuse(error, event, context.log);
    })
    .handler(handle);

  return (event, context) =>
    handler(event, {
      ...context,
      log: requestLog(deps.logger, { ...keysOf(event), invocationId: context.awsRequestId }),
    });
}

/** A refusal is an answer like any other; only a fault of ours is an error that someone must see. */
export function logRefusal(log: RequestLog, error: AxonError, durationMs?: number): void {
  const { code, field, cause } = error;
  const details = { code, field, durationMs };
  if (code === "internal") log.error("failed", { ...details, error: cause ?? error });
  else if (code === "unavailable")
    log.warn("a store is away", { ...details, error: cause ?? error });
  else log.info("refused", details);
}
