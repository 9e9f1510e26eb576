import type { Logger } from "@aws-lambda-powertools/logger";

/** What a log line may say about whom it concerns. Neither text nor credentials are among it. */
export interface LogKeys {
  /** Lambda's own name of the invocation. */
  invocationId?: string;
  connectionId?: string;
  requestId?: string;
  turnId?: string;
  conversationId?: string;
  tenantId?: string;
  correlationId?: string;
  route?: string;
  stream?: string;
  messageId?: string;
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
}

type LogDetails = Record<string, unknown> & { error?: unknown };

export function requestLog(logger: Logger, known: LogKeys): RequestLog {
  const keys = { ...known };
  return {
    add: (more) => void Object.assign(keys, more),
    fork: () => requestLog(logger, keys),
    info: (message, details) => logger.info(message, { ...keys, ...loggable(details) }),
    warn: (message, details) => logger.warn(message, { ...keys, ...loggable(details) }),
    error: (message, details) => logger.error(message, { ...keys, ...loggable(details) }),
  };
}

/** The details with their error cut down to what `failureForLog` leaves of it. */
function loggable({ error, ...details }: LogDetails = {}): Record<string, unknown> {
  return error === undefined ? details : { ...details, failure: failureForLog(error) };
}

/**
 * What a log line may say about a failure. Errors carry more than that: ioredis adds the command with
 * its arguments, pg the row, and JSON.parse quotes what it could not read; all of it may be someone's
 * prompt or answer.
 */
export function failureForLog(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { type: typeof error };
  const { name, message, stack, cause } = error;
  const { code } = error as { code?: unknown };
  const frames = stack?.split("\n").filter((line) => /^\s+at /.test(line));
  return {
    name,
    message: error instanceof SyntaxError ? "The text is not valid JSON." : message,
    ...(typeof code === "string" && { code }),
    stack: frames?.map((line) => line.trim()),
    ...(cause !== undefined && { cause: failureForLog(cause) }),
  };
}
