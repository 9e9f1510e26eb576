import { setTimeout as sleep } from "node:timers/promises";
import type { Engine, EngineEvent, GenerateRequest } from "../../dataplane/engine/engine.ts";
import { EngineError } from "../../dataplane/engine/engine-error.ts";

/** An engine without a model: its tokens count upward, so a reader sees at once what is missing. */
export interface SyntheticEngine extends Engine {
  /** From now on the engine is broken, as if a rank had died. */
  fail(): void;
  /** Requests that have begun, oldest first. */
  requests: GenerateRequest[];
}

export interface SyntheticOptions {
  /** Tokens of every answer. */
  tokens: number;
  msPerToken?: number;
  slots?: number;
  contextLength?: number;
}

/** The token with sequence number n is n; `wordsTokenizer` writes it as "n ". */
export function syntheticEngine(options: SyntheticOptions): SyntheticEngine {
  const { tokens, msPerToken = 0, slots = 8, contextLength = 1_000 } = options;
  const broken = new AbortController();
  const listeners: ((error: Error) => void)[] = [];
  const requests: GenerateRequest[] = [];
  let running = 0;

  async function* generate(request: GenerateRequest): AsyncGenerator<EngineEvent> {
    requests.push(request);
    running++;
    try {
      const last = Math.min(tokens, request.maxTokens);
      for (let token = request.emittedTokens.length + 1; token <= last; token++) {
        const signal = AbortSignal.any([request.signal, broken.signal]);
        await sleep(msPerToken, undefined, { signal }).catch(() => {});
        if (broken.signal.aborted) throw new EngineError("rank_lost", "A rank died.");
        if (request.signal.aborted) {
          yield { type: "finish", reason: "cancelled" };
          return;
        }
        yield { type: "token", token };
      }
      const reason = request.signal.aborted ? "cancelled" : last < tokens ? "length" : "stop";
      yield { type: "finish", reason };
    } finally {
      running--;
    }
  }

  return {
    requests,
    generate,
    describe: () => ({
      ...{ model: "synthetic", contextLength, ranks: 1, slots },
    }),
    health: () => ({
      state: broken.signal.aborted ? "failed" : "ready",
      ...{ runningTurns: running, waitingTurns: 0, ranks: [], steps: 0 },
      room: Math.max(0, slots - running),
      cache: { pages: 0, usedPages: 0, reusedTokens: 0, preemptions: 0 },
    }),
    onFailure: (listener) => void listeners.push(listener),
    close: async () => {},
    fail() {
      broken.abort();
      for (const listener of listeners) listener(new EngineError("rank_lost", "A rank died."));
    },
  };
}

/** Prompts of one token a word; token n is the text "n ". */
export const wordsTokenizer = {
  encodeChat: (messages: readonly { content: string }[]) =>
    messages.flatMap(({ content }) => content.split(/\s+/).map((word) => word.length)),
  encodeText: (text: string) => text.split(/\s+/).map((word) => word.length),
  detokenizer: () => ({ push: (token: number) => `${token} `, flush: () => "" }),
};

/** What the synthetic engine says in `tokens` tokens. */
export function syntheticText(tokens: number): string {
  return Array.from({ length: tokens }, (_, i) => `${i + 1} `).join("");
}
