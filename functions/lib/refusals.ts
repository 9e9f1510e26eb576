import type * as z from "zod";
import { AxonError, errorCodes } from "../../events/errors.ts";

/** The first problem that zod found, as the client is told about it. */
export function refusalOf({ issues }: z.ZodError): AxonError {
  const issue = issues[0];
  if (issue === undefined) return new AxonError("invalid_field", "The request is not valid.");
  const unknown = issue.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
  // An unknown name is the client's own words, of any length.
  const field = [...issue.path, ...unknown].map(String).join(".").slice(0, 100);
  const code =
    issue.code === "custom" && issue.params?.["code"] === "prompt_too_long"
      ? "prompt_too_long"
      : "invalid_field";
  const problem = unknown.length > 0 ? "is not known here: leave it out" : issue.message;
  const isUnknownField = unknown.length > 0;
  return new AxonError(code, `${field}: ${problem}.`, { field, isUnknownField });
}

/** How a function that people invoke says that it refuses. */
export interface RefusalAnswer {
  ok: false;
  error: { code: string; message: string; field?: string; retryable: boolean };
}

/** A refusal as the answer that says so. */
export function refusalAnswer({ code, message, field }: AxonError): RefusalAnswer {
  const { retryable } = errorCodes[code];
  return { ok: false, error: { code, message, retryable, ...(field !== undefined && { field }) } };
}
