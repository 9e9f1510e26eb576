import type { Logger } from "@aws-lambda-powertools/logger";
import { failureForLog } from "../../events/failure-for-log.ts";
import type { InvocationMeter } from "./emf.ts";

export { failureForLog };

/** What a log line may say about whom it concerns. Neither text nor credentials are among it. */
export interface LogKeys {
  /** Lambda's own name of the invocation. */
  invocationId?: string;
  connectionId?: string;
  requestId?: string;
  turnId?: string;
  conversationId?: string;
  tenantId?: string;
  /** The id of an API key, which is no secret. */
  keyId?: string | undefined;
  correlationId?: string;
  route?: string;
  stream?: string;
  messageId?: string;
  /** Of the trace that the work is part of. */
  traceId?: string;
  spanId?: string;
}

/**
 * The log lines of one invocation. Each carries the keys that have become known so far. The keys are
 * kept here and not in the logger, because one process may serve many invocations at the same time.
 */
export interface RequestLog {
  add(keys: LogKeys): void;
  /** Another one for a part of the work, that starts with the keys known so far. */
  fork(): RequestLog;
  info(message: string, details?: LogDetails): void;
  warn(message: string, details?: LogDetails): void;
  error(message: string, details?: LogDetails): void;
  /** Whom it concerns, as far as is known. */
  keys(): LogKeys;
  /** Notes a number, for CloudWatch's metrics: they are lines of the log, too. */
  measure: InvocationMeter["measure"];
}

type LogDetails = Record<string, unknown> & { error?: unknown };

export function requestLog(
  logger: Logger,
  known: LogKeys,
  { measure }: Pick<InvocationMeter, "measure">,
): RequestLog {
  const keys = { ...known };
  return {
    add: (more) => void Object.assign(keys, more),
    fork: () => requestLog(logger, keys, { measure }),
    measure,
    keys: () => ({ ...keys }),
    info: (message, details) => logger.info(message, { ...keys, ...loggable(details) }),
    warn: (message, details) => logger.warn(message, { ...keys, ...loggable(details) }),
    error: (message, details) => logger.error(message, { ...keys, ...loggable(details) }),
  };
}

/** The details with their error cut down to what `failureForLog` leaves of it. */
function loggable({ error, ...details }: LogDetails = {}): Record<string, unknown> {
  return error === undefined ? details : { ...details, failure: failureForLog(error) };
}
