import { failureForLog, type LogKeys } from "./request-log.ts";

/**
 * A fault of ours as the Issues of the SST Console find it: they follow the log groups for what `console.error`
 * writes of an error in Lambda's text format, `<time>\t<invocation>\tERROR\t<name>: <message>\n    at …`, and put
 * together what has the same name and the same first line of code. What is thrown on to Lambda is written so by
 * Lambda itself; the JSON lines of the log are passed over there. So each fault is told once.
 *
 * It says whom it concerns, and no more of the error than a log line may.
 */
export function tellIssue(error: unknown, { turnId, invocationId }: LogKeys): void {
  console.error(issueText(error, { turnId, invocationId }));
}

function issueText(error: unknown, keys: Record<string, string | undefined>): string {
  const { name = "Error", message = "", stack = [] } = failureForLog(error);
  const known = Object.entries(keys).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key} ${value}`],
  );
  const about = known.length === 0 ? "" : ` (${known.join(", ")})`;
  const frames = Array.isArray(stack) ? stack.map((frame) => `\n    ${String(frame)}`) : [];
  return `${String(name)}: ${String(message)}${about}${frames.join("")}`;
}
