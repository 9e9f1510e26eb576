import { type AxonError, type ErrorCode, errorCodes } from "../../../events/errors.ts";
import type { StreamEnd } from "../../../events/redis-keys.ts";
import { AnswerRewound, ReadingTimedOut } from "../turns/read-answer.ts";
import { ParameterRefused } from "./parameters.ts";

/** The body of an error, as OpenAI's clients read it. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string };
}

/** Where OpenAI has a code of its own; the others are those of docs/PROTOCOL.md. */
const ownCodes: Partial<Record<ErrorCode, string>> = {
  unauthenticated: "invalid_api_key",
  forbidden: "insufficient_permissions",
  unknown_model: "model_not_found",
  invalid_field: "invalid_value",
  rate_limited: "rate_limit_exceeded",
};

function typeOf(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 403) return "permission_error";
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

const bodyOf = (
  status: number,
  code: string,
  message: string,
  param: string | null = null,
): ErrorBody => ({ error: { message, type: typeOf(status), param, code } });

/** How our own fields are called in requests of this API. */
const parameters: Record<string, string> = { requestId: "Idempotency-Key" };

export function errorOf(error: AxonError): { status: number; body: ErrorBody } {
  const { code, message, field } = error;
  const { httpStatus: status } = errorCodes[code];
  const named = error instanceof ParameterRefused ? error.parameterCode : (ownCodes[code] ?? code);
  const param = field === undefined ? null : (parameters[field] ?? field);
  return { status, body: bodyOf(status, named, message, param) };
}

/** A turn that has ended without an answer: it was cancelled, or has failed. */
export function errorOfEnd({
  finishReason,
  error,
}: StreamEnd): { status: number; body: ErrorBody } | undefined {
  if (finishReason === "cancelled") {
    const message = "The turn was cancelled before its answer was complete.";
    return { status: 410, body: bodyOf(410, "turn_cancelled", message) };
  }
  if (finishReason !== "failed") return undefined;
  const { code = "internal", message = "The turn failed." } = error ?? {};
  if (code === "prompt_too_long") {
    return { status: 400, body: bodyOf(400, "context_length_exceeded", message, "messages") };
  }
  const status = code === "invalid_request" ? 400 : 500;
  return { status, body: bodyOf(status, code, message) };
}

/** Why reading an answer has broken off, where that is no fault. */
export function errorOfReading(
  error: unknown,
  turnId: string,
): { status: number; body: ErrorBody } | undefined {
  if (error instanceof AnswerRewound) {
    const message = `${error.message} Read the answer anew: GET /v1/chat/completions/${turnId}.`;
    return { status: 409, body: bodyOf(409, "stream_rewound", message) };
  }
  if (!(error instanceof ReadingTimedOut)) return undefined;
  const message =
    `The answer takes longer than one request may. It goes on: GET /v1/chat/completions/${turnId}, or repeat ` +
    "the request with the Last-Event-ID, or the Idempotency-Key, that you have.";
  return { status: 504, body: bodyOf(504, "timeout", message) };
}
