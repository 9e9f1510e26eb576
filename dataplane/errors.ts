import { networkCodes, redisNotReady } from "../events/passing-faults.ts";

/**
 * What a failed call means for whoever made it.
 * - `gone`: the other end of a connection has left for good.
 * - `throttled`: too many calls; slow down and try again.
 * - `retryable`: a passing fault of the network or the service.
 * - `fatal`: the call itself is wrong; trying again cannot help.
 */
export type Failure = "gone" | "throttled" | "retryable" | "fatal";

const throttlingNames = new Set([
  "ThrottlingException",
  "Throttling",
  "TooManyRequestsException",
  "LimitExceededException",
  "RequestThrottled",
]);

const passingNames = new Set(["TimeoutError", "NetworkingError", "MaxRetriesPerRequestError"]);
/** What ioredis says of a connection, or of all those of a cluster. */
const broken =
  /^(Connection is closed|None of startup nodes|Failed to refresh slots cache|Cluster is ended|Too many Cluster redirections)/;

/** Classifies an error of the AWS SDK, of ioredis, or of a socket. */
export function classify(error: unknown): Failure {
  if (!(error instanceof Error)) return "fatal";
  const { name, message } = error;
  const { $metadata, code } = error as {
    $metadata?: { httpStatusCode?: number };
    code?: string;
  };
  const status = $metadata?.httpStatusCode;
  if (name === "GoneException" || status === 410) return "gone";
  if (throttlingNames.has(name) || status === 429) return "throttled";
  if (status !== undefined && status >= 500) return "retryable";
  if (networkCodes.has(code ?? "") || passingNames.has(name)) return "retryable";
  if (name === "ReplyError" && redisNotReady.test(message)) return "retryable";
  return broken.test(message) ? "retryable" : "fatal";
}
