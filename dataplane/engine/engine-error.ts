/** What can go wrong in an engine. Codes are stable: callers decide by them. */
export type EngineErrorCode =
  /** The machine lacks what the engine needs. */
  | "unsupported_machine"
  /** The checkpoint is sound, but of a kind that this engine does not run. */
  | "unsupported_model"
  /** The checkpoint's files are missing, damaged or contradict each other. */
  | "invalid_checkpoint"
  /** A field of the request, or an option of the engine, is out of range. */
  | "invalid_request"
  /** The prompt leaves no room for an answer within the context length. */
  | "prompt_too_long"
  /**
   * A rank was not let into the group: secret, model, size or epoch differ. Or a server does not let us
   * in, or has the model no more.
   */
  | "refused"
  /** A rank died or fell silent; the group ends with it. */
  | "rank_lost"
  /** Seen from a rank: the leader died or fell silent. */
  | "leader_lost"
  /** The group was not complete in time. */
  | "forming_failed"
  /** The server behind the engine is gone, dead, or makes no progress. */
  | "server_lost"
  /** The server behind the engine has refused the request again and again, for want of room. */
  | "overloaded"
  /** The engine was closed. */
  | "closed"
  /** A defect of the engine itself. */
  | "internal";

/** `message` says what failed and what is expected instead; what caused it stays in `cause`. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  readonly code: EngineErrorCode;

  constructor(code: EngineErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
  }
}

/** Any thrown value as an EngineError, an unknown one as "internal". */
export function toEngineError(thrown: unknown): EngineError {
  if (thrown instanceof EngineError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new EngineError("internal", message, { cause: thrown });
}
