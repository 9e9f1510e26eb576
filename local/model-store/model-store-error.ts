/** What can go wrong with models in the store. Codes are stable: callers decide by them. */
export type ModelStoreErrorCode =
  /** What was asked for cannot be understood, or its name is no name for a folder. */
  | "invalid_source"
  /** No such model, revision or file where it was looked for. */
  | "not_found"
  /** The hub wants a licence to be accepted, or a token. */
  | "gated"
  /** The hub does not answer, or fails again and again. */
  | "unreachable"
  /** The hub's answer is not what its API promises. */
  | "bad_answer"
  /** The model is sound, but of a kind that does not run here. */
  | "unsupported_model"
  /** What was received is not what was announced. */
  | "checksum"
  | "no_space"
  /** Another process pulls or removes this model. */
  | "busy"
  /** A stage or a rank that runs has this model. */
  | "in_use"
  /** Another model has this name. */
  | "name_taken"
  /** The store has no model of this name. */
  | "unknown_model"
  /** The folder of the store cannot be read or written. */
  | "store_unusable"
  /** Stopped by a signal; what has arrived is kept. */
  | "interrupted";

/** `message` says what failed and what to do next; what caused it stays in `cause`. */
export class ModelStoreError extends Error {
  override readonly name = "ModelStoreError";
  readonly code: ModelStoreErrorCode;

  constructor(code: ModelStoreErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
  }
}

const fullDisk = ["ENOSPC", "EDQUOT"];

/** Any thrown value as a ModelStoreError: those of the file system are about the store. */
export function toModelStoreError(thrown: unknown, storeDir: string): unknown {
  if (thrown instanceof ModelStoreError || !(thrown instanceof Error)) return thrown;
  const { code, syscall } = thrown as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined) return thrown;
  if (fullDisk.includes(code)) {
    return new ModelStoreError(
      "no_space",
      `The disk of ${storeDir} is full. Make room, or set AXON_MODELS_DIR to another disk; what has ` +
        "arrived is kept.",
      { cause: thrown },
    );
  }
  return new ModelStoreError(
    "store_unusable",
    `${thrown.message}. Make ${storeDir} readable and writable, or set AXON_MODELS_DIR to another folder.`,
    { cause: thrown },
  );
}
