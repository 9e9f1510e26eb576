export type TokenizerErrorCode =
  /** The model's folder lacks a file. */
  | "tokenizer_missing"
  /** A file is damaged, or contradicts itself. */
  | "invalid_tokenizer"
  /** The file is sound, but of a kind that we do not read. */
  | "unsupported_tokenizer"
  /** The model does not say how a conversation is put to it. */
  | "no_chat_template";

/** Why a model's tokenizer cannot be used; `message` says what to do instead. */
export class TokenizerError extends Error {
  override readonly name = "TokenizerError";
  readonly code: TokenizerErrorCode;

  constructor(code: TokenizerErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(message, options);
    this.code = code;
  }
}
