import { Logger } from "@aws-lambda-powertools/logger";
import { failureForLog } from "../events/failure-for-log.ts";

/**
 * The logger of a long-lived process: JSON lines, in which errors say nothing of anybody's text. Left to
 * itself it writes every property of an error, and ioredis adds the command that failed with its arguments:
 * the tokens of somebody's answer, or a whole job.
 */
export function processLogger(serviceName: string): Logger {
  return new Logger({
    serviceName,
    jsonReplacerFn: (_key, value) => (value instanceof Error ? failureForLog(value) : value),
  });
}
