/** Why a request or a turn failed. `code` is one of docs/PROTOCOL.md, or one of the client's own. */
export class AxonClientError extends Error {
  override readonly name = "AxonClientError";
  /** The client's own are `connection_failed` and `closed`. */
  readonly code: string;
  /** Whether the same request may succeed later. */
  readonly retryable: boolean;
  /** The part of the request that was refused. */
  readonly field: string | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(
    code: string,
    message: string,
    details: {
      retryable?: boolean;
      field?: string | undefined;
      retryAfterMs?: number | undefined;
    } = {},
  ) {
    super(message);
    this.code = code;
    this.retryable = details.retryable ?? false;
    this.field = details.field;
    this.retryAfterMs = details.retryAfterMs;
  }
}
