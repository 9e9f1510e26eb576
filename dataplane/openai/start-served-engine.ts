import type { Engine } from "../engine/engine.ts";
import { EngineError } from "../engine/engine-error.ts";
import { type ChatTokenizer, type LocalTokenizer, loadTokenizer } from "../tokenizer.ts";
import { tryCompletion } from "./completion.ts";
import { ServedEngine } from "./served-engine.ts";
import { awaitServedModel } from "./served-model.ts";
import { servedTokenizer } from "./served-tokenizer.ts";
import { Server, type ServerAddress } from "./server.ts";

export interface ServedOptions extends ServerAddress {
  /**
   * vllm: token ids go in and out, and the server has the tokenizer.
   * openai: text goes in and out, and `modelDir` has the tokenizer and chat template.
   */
  kind: "vllm" | "openai";
  /** The model's name at the server; undefined is the first that it lists. */
  model?: string | undefined;
  modelDir?: string | undefined;
  /** Shorter than the server's, or where the server does not tell. */
  contextLength?: number | undefined;
  /** Tokens that there are. A server with GPUs dies of one that there is not. */
  vocabularySize?: number | undefined;
  slots: number;
  ranks: number;
  stallMs: number;
  /** How long the server may take to be there. */
  readyMs: number;
  note: (what: string) => void;
}

/**
 * Waits for the server, tries it with one token, and gives the engine and the tokenizer that goes with it.
 * @throws EngineError "forming_failed" when the server does not come, "refused" when it does not let us
 *   in, "invalid_request" when it cannot do what `kind` needs; TokenizerError.
 */
export async function startServedEngine(
  options: ServedOptions,
): Promise<{ engine: Engine; tokenizer: ChatTokenizer }> {
  const { kind, model, modelDir, readyMs, note, slots, ranks, stallMs, vocabularySize } = options;
  const server = new Server(options);
  const served = await awaitServedModel(server, model, { withinMs: readyMs, note });
  const contextLength = Math.min(
    options.contextLength ?? Number.POSITIVE_INFINITY,
    served.contextLength ?? Number.POSITIVE_INFINITY,
  );
  if (!Number.isFinite(contextLength)) {
    const message = `${server.url} does not say how long its context is: set AXON_CONTEXT_TOKENS.`;
    throw new EngineError("invalid_request", message);
  }
  note(`has found ${served.id} with a context of ${contextLength} tokens; tries a token`);
  const tokenizer =
    kind === "vllm"
      ? await idTokenizer(server, served.id)
      : await textTokenizer(server, served.id, await loadTokenizer(modelDir ?? ""), note);
  const engine = new ServedEngine({
    ...{ server, model: served.id, contextLength, slots, ranks, stallMs, vocabularySize },
    speaks: kind === "vllm" ? "ids" : "text",
  });
  return { engine, tokenizer };
}

const greeting = [{ role: "user", content: "Hello" }] as const;
const greedy = {
  ...{ temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0 },
};
const trial = { maxTokens: 1, sampling: greedy, cacheScope: undefined };

async function idTokenizer(server: Server, model: string): Promise<ChatTokenizer> {
  const tokenizer = servedTokenizer(server, model);
  const prompt = await tokenizer.encodeChat(greeting);
  const { hasIds } = await tryCompletion(server, { ...trial, model, prompt });
  if (hasIds) return tokenizer;
  throw new EngineError(
    "invalid_request",
    `${server.url} gives no token ids: that takes vLLM 0.10.2 or newer. AXON_ENGINE=openai takes text.`,
  );
}

/**
 * The prompt as the model's template writes it begins with what begins a text. Some servers add that once
 * more (as llama.cpp does, by the model's metadata), which they show by the length of a prompt.
 */
async function textTokenizer(
  server: Server,
  model: string,
  local: LocalTokenizer,
  note: (what: string) => void,
): Promise<ChatTokenizer> {
  const { beginText } = local;
  const prompt = local.render(greeting);
  const { promptTokens } = await tryCompletion(server, { ...trial, model, prompt });
  const expected = local.encodeChat(greeting).length;
  const addsBegin = beginText !== "" && promptTokens === expected + 1;
  if (promptTokens !== undefined && !addsBegin && promptTokens !== expected) {
    note(
      `makes ${promptTokens} tokens of a prompt that has ${expected} by AXON_MODEL_DIR: is it the same model?`,
    );
  }
  return {
    encodeChat: (messages) => local.encodeChat(messages),
    encodeText: (text) => local.encodeText(text),
    renderChat(messages) {
      const text = local.render(messages);
      return addsBegin && text.startsWith(beginText) ? text.slice(beginText.length) : text;
    },
    detokenizer: () => undefined,
  };
}
