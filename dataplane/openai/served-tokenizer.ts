import { z } from "zod";
import type { ChatMessage } from "../../events/jobs.ts";
import { retry } from "../backoff.ts";
import { defuse } from "../control-tokens.ts";
import type { ChatTokenizer } from "../tokenizer.ts";
import { refusalOf } from "./refusals.ts";
import { type Server, ServerError } from "./server.ts";

const replySchema = z.looseObject({
  tokens: z.array(z.int().min(0)),
  token_strs: z.array(z.string()).nullish(),
});

const mostAttempts = 5;

/**
 * The tokenizer and chat template of a vLLM server, by its /tokenize. It has no detokenizer: tokens come
 * from the server with their text. Throws EngineError "invalid_request" for a conversation that the
 * model's template does not take, and ServerError.
 */
export function servedTokenizer(server: Server, model: string): ChatTokenizer {
  const tokenize = async (body: Record<string, unknown>) => {
    let attempts = 0;
    try {
      return replySchema.parse(
        await retry(() => server.postJson("/tokenize", { model, ...body }), {
          worthRetrying: (error) => isPassing(error) && ++attempts < mostAttempts,
        }),
      );
    } catch (error) {
      const isFatal = error instanceof ServerError && error.failure === "fatal";
      throw isFatal ? refusalOf("of /tokenize", error) : error;
    }
  };

  /**
   * The control tokens among what looks like one in some texts. The server would take them for real: only it
   * knows which there are, and what it makes one token of is one. It is asked once for all of them: a
   * conversation may have thousands of messages.
   */
  const controlTokensIn = async (texts: readonly string[]): Promise<string[]> => {
    const candidates = new Set(
      texts.flatMap((text) => lookalikes.flatMap((pattern) => text.match(pattern) ?? [])),
    );
    if (candidates.size === 0) return [];
    const prompt = [...candidates].join("\n");
    const body = { prompt, add_special_tokens: false, return_token_strs: true };
    const found = new Set((await tokenize(body)).token_strs ?? []);
    return [...candidates].filter((candidate) => found.has(candidate));
  };

  const defused = async (messages: readonly ChatMessage[]): Promise<ChatMessage[]> => {
    let texts = messages.map(({ content }) => content);
    // One that is broken up may leave another to be seen that it had been part of.
    for (let tokens = await controlTokensIn(texts); tokens.length > 0; ) {
      const known = tokens;
      texts = texts.map((text) => defuse(text, known));
      tokens = await controlTokensIn(texts);
    }
    return messages.map(({ role }, i) => ({ role, content: texts[i] ?? "" }));
  };

  return {
    async encodeChat(messages) {
      const safe = await defused(messages);
      return (await tokenize({ messages: safe, add_generation_prompt: true })).tokens;
    },
    async encodeText(text) {
      return (await tokenize({ prompt: text, add_special_tokens: true })).tokens;
    },
    detokenizer: () => undefined,
  };
}

/** Control tokens of all known families stand in angle or square brackets. */
const lookalikes = [/<[^\s<>]{1,64}>/g, /\[[^\s[\]]{1,64}\]/g];

const isPassing = (error: unknown) =>
  error instanceof ServerError && ["retryable", "throttled"].includes(error.failure);
