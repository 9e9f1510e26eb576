/**
 * The frames of the WebSocket as plain types, so that this package needs no other. docs/PROTOCOL.md
 * explains them; that they are those of the server's schemas is tested.
 */

/** How the next token is drawn, and where the answer ends. What is left out is the model's default. */
interface Sampling {
  /** Tokens of the answer, at most. */
  maxTokens?: number | undefined;
  /** 0 is greedy: always the likeliest token. */
  temperature?: number | undefined;
  topK?: number | undefined;
  topP?: number | undefined;
  minP?: number | undefined;
  repetitionPenalty?: number | undefined;
  /** The answer ends before the first of these strings that occurs in it. */
  stop?: string[] | undefined;
  /** The same seed draws the same tokens. */
  seed?: number | undefined;
}

export interface ChatFrame {
  action: "chat";
  /** The client's own name for this request. Sent again, it names the same turn. */
  requestId: string;
  conversationId?: string | undefined;
  model?: string | undefined;
  prompt: string;
  sampling?: Sampling | undefined;
  /** "batch" when nobody waits for the answer; left out, interactive. */
  priority?: "interactive" | "batch" | undefined;
  /** W3C Trace Context: the span that the request is part of. */
  traceparent?: string | undefined;
}

export interface AcceptedFrame {
  type: "accepted";
  requestId: string;
  turnId: string;
  conversationId: string;
  model: string;
  revision: string;
  /** Only where the turn waits for others to end; 1 is next. */
  queue?: { position: number; estimatedWaitMs: number } | undefined;
  /** Only where no group takes turns yet, as after a rest: about how long until one does, ms. */
  warming?: { estimatedMs: number } | undefined;
}

/** Tokens `from`…`to` of a turn, joined; the epoch of token `to`. */
export interface TokensFrame {
  type: "tokens";
  turnId: string;
  from: number;
  to: number;
  text: string;
  epoch: number;
}

/** The answer is cut back to token `to`. */
export interface RewindFrame {
  type: "rewind";
  turnId: string;
  to: number;
}

interface Usage {
  promptTokens: number;
  completionTokens: number;
}

/** Where a turn's time went, in ms. */
interface Timings {
  queuedMs: number;
  firstTokenMs: number;
  totalMs: number;
}

/** The last frame of a turn. */
export interface DoneFrame {
  type: "done";
  turnId: string;
  lastSeq: number;
  /** That of its last token. */
  epoch: number;
  finishReason: "stop" | "length" | "cancelled" | "failed";
  usage: Usage;
  timings: Timings;
  /** Only with `failed`. */
  error?: { code: string; message: string } | undefined;
}

export interface ErrorFrame {
  type: "error";
  /** One of docs/PROTOCOL.md. */
  code: string;
  message: string;
  retryable: boolean;
  field?: string | undefined;
  requestId?: string | undefined;
  turnId?: string | undefined;
  retryAfterMs?: number | undefined;
}

export type ServerFrame = AcceptedFrame | TokensFrame | RewindFrame | DoneFrame | ErrorFrame;
