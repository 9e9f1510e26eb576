/**
 * The error codes that a client can meet, each with whether trying again may help. They are part of
 * the wire protocol: a code is never renamed and never reused for something else.
 */
export const errorCodes = {
  unauthenticated: { retryable: false, httpStatus: 401 },
  forbidden: { retryable: false, httpStatus: 403 },
  invalid_frame: { retryable: false, httpStatus: 400 },
  unknown_action: { retryable: false, httpStatus: 400 },
  invalid_field: { retryable: false, httpStatus: 400 },
  prompt_too_long: { retryable: false, httpStatus: 413 },
  unknown_model: { retryable: false, httpStatus: 404 },
  conversation_not_found: { retryable: false, httpStatus: 404 },
  conversation_busy: { retryable: true, httpStatus: 409 },
  turn_not_found: { retryable: false, httpStatus: 404 },
  not_found: { retryable: false, httpStatus: 404 },
  rollout_not_found: { retryable: false, httpStatus: 404 },
  rollout_busy: { retryable: true, httpStatus: 409 },
  rollout_refused: { retryable: false, httpStatus: 409 },
  rate_limited: { retryable: true, httpStatus: 429 },
  overloaded: { retryable: true, httpStatus: 503 },
  unavailable: { retryable: true, httpStatus: 503 },
  internal: { retryable: true, httpStatus: 500 },
} as const;

export type ErrorCode = keyof typeof errorCodes;

/**
 * A failure that the caller can understand and act on. `message` says what to do next; `field`
 * names the part of the request that was refused. Whatever caused it stays in `cause`.
 */
export class AxonError extends Error {
  override readonly name = "AxonError";
  readonly code: ErrorCode;
  readonly field: string | undefined;
  readonly retryAfterMs: number | undefined;
  /** `field` is no name of ours but the caller's own words, which no log line has. */
  readonly isUnknownField: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    details: {
      field?: string;
      retryAfterMs?: number;
      isUnknownField?: boolean;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause: details.cause });
    this.code = code;
    this.field = details.field;
    this.retryAfterMs = details.retryAfterMs;
    this.isUnknownField = details.isUnknownField ?? false;
  }
}
