import { AxonError } from "../../events/errors.ts";
import { networkCodes, redisNotReady } from "../../events/passing-faults.ts";

const passingNames = new Set([
  "TimeoutError",
  "NetworkingError",
  "MaxRetriesPerRequestError",
  "ThrottlingException",
  "ProvisionedThroughputExceededException",
  "RequestLimitExceeded",
  "RequestThrottled",
  "TooManyRequestsException",
  "ERR_JWKS_TIMEOUT",
]);
/** What ioredis and pg say, without a code, of a connection that broke or never came about. */
const brokenConnection =
  /^(Connection is closed|None of startup nodes|Failed to refresh slots cache|Cluster is ended|Too many Cluster redirections|Command timed out|Socket timeout|Stream isn't writeable|Connection terminated|timeout (exceeded|expired)|Query read timeout|Client has encountered a connection error)/;
/**
 * PostgreSQL's conditions that pass: connection exceptions (08), serialization and deadlock (40),
 * insufficient resources (53), an operator's intervention (57).
 * Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
const passingSqlState = /^(08|40|53|57)[0-9A-Z]{3}$/;

/** Whether a store (Redis, PostgreSQL, DynamoDB, SQS) did not answer, and may answer later. */
export function isOutage(error: unknown): boolean {
  if (error instanceof AxonError) return error.code === "unavailable";
  if (!(error instanceof Error)) return false;
  const { name, message, cause } = error;
  const { $metadata, code = "" } = error as {
    $metadata?: { httpStatusCode?: number };
    code?: unknown;
  };
  const status = $metadata?.httpStatusCode ?? 0;
  if (status >= 500 || status === 429 || passingNames.has(name)) return true;
  if (networkCodes.has(String(code)) || passingSqlState.test(String(code))) return true;
  if (brokenConnection.test(message)) return true;
  if (name === "ReplyError" && redisNotReady.test(message)) return true;
  return cause !== undefined && cause !== error && isOutage(cause);
}

/** Any failure as one that a client can understand; what caused it stays in `cause`. */
export function toAxonError(error: unknown): AxonError {
  if (error instanceof AxonError) return error;
  if (isOutage(error)) {
    return new AxonError(
      "unavailable",
      "A store did not answer. Send the same again in a moment.",
      {
        cause: error,
      },
    );
  }
  return new AxonError(
    "internal",
    "Something broke on our side. Send the same again in a moment.",
    {
      cause: error,
    },
  );
}
