/**
 * The engine port: token ids in, token ids out. Whatever can generate (the embedded engine here, a
 * server with GPUs elsewhere) stands behind these types, and knows nothing of what is above them.
 */

/** How the next token is drawn from the logits. */
export interface Sampling {
  /** 0 is greedy: always the likeliest token. */
  temperature: number;
  /** Draw only among the K likeliest tokens; 0 is all of them. */
  topK: number;
  /** Draw only among the likeliest tokens whose probabilities add up to P; 1 is all of them. */
  topP: number;
  /** Draw only among tokens at least P times as probable as the likeliest; 0 is all of them. */
  minP: number;
  /** Divides the positive and multiplies the negative logits of tokens seen before; 1 is off. */
  repetitionPenalty: number;
  /** Integer ≥ 0. A token is drawn by (seed, its position), never by what was drawn before. */
  seed: number;
}

export interface GenerateRequest {
  /** Names the request in errors. */
  id: string;
  promptTokens: readonly number[];
  /** Tokens of the answer that an earlier run has emitted; generation goes on after them. */
  emittedTokens: readonly number[];
  /** Prompt and emitted tokens as text, for an engine that reads text instead of ids. */
  text?: { prompt: string; emitted: string };
  /** Tokens of the answer at most, emitted and new ones together. */
  maxTokens: number;
  sampling: Sampling;
  /**
   * Requests of one scope may share what they have in common at their beginnings: whoever measures
   * the time to the first token could learn what others of the scope have asked.
   */
  cacheScope?: string;
  /** Aborting ends the request with "cancelled", within one step. */
  signal: AbortSignal;
}

/**
 * stop: the model ended its answer. length: `maxTokens` or the context length is reached.
 * cancelled: the signal was aborted.
 */
export type FinishReason = "stop" | "length" | "cancelled";

/** A finish is the last event. Tokens that end an answer are not reported as tokens. */
export type EngineEvent =
  | {
      type: "token";
      token: number;
      /**
       * What the token adds to the answer, from an engine that turns its tokens into text itself: whole
       * characters, or "" where it completes none.
       */
      text?: string;
    }
  | { type: "finish"; reason: FinishReason };

/** How weights are kept: as they are in f32, or in int8 with a scale for each 32 of them. */
export type WeightFormat = "f32" | "int8";

export interface EngineDescription {
  model: string;
  /** Tokens of prompt and answer together, at most. */
  contextLength: number;
  ranks: number;
  /** Requests that can run at the same time; others wait. */
  slots: number;
}

/** What is known of a model whose checkpoint this process has read itself. */
export interface CheckpointDescription extends EngineDescription {
  /** The same for two copies of the same weights, and for no other weights. */
  fingerprint: string;
  architecture: string;
  parameters: number;
  vocabularySize: number;
  /** Each of these ends an answer. */
  eosTokens: number[];
  weights: WeightFormat;
}

export interface EngineHealth {
  state: "forming" | "ready" | "failed" | "closed";
  runningTurns: number;
  waitingTurns: number;
  /** Requests more that would run at once, as far as is known now; others would wait. */
  room: number;
  ranks: { rank: number; pid: number; alive: boolean }[];
  /** Steps run since the start: a busy engine whose number stands still is stuck. */
  steps: number;
  /** Time spent in them, in seconds, where the engine knows it. */
  stepSeconds?: number;
  /** Room for keys and values. */
  cache: {
    pages: number;
    usedPages: number;
    /** Tokens of prompts, since the start, that were found in the cache. */
    reusedTokens: number;
    /** How often a turn had to make room and was computed again later. */
    preemptions: number;
  };
}

export interface Engine {
  describe(): EngineDescription;
  /**
   * Runs the request when the iteration starts; leaving the loop early cancels it.
   * Throws `EngineError`: "prompt_too_long" or "invalid_request" before anything runs, and the
   * code of the failure when the engine fails or closes while the request waits or runs.
   */
  generate(request: GenerateRequest): AsyncIterable<EngineEvent>;
  health(): EngineHealth;
  /** `listener` is called once when the engine fails, at once if it has already failed. */
  onFailure(listener: (error: Error) => void): void;
  /** Ends every rank. Requests that still run throw "closed". */
  close(): Promise<void>;
}
