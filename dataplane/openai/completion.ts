import { z } from "zod";
import type { Sampling } from "../engine/engine.ts";
import { type Server, ServerError } from "./server.ts";

/** What goes to /v1/completions, but for how it comes back. */
export interface CompletionRequest {
  model: string;
  prompt: readonly number[] | string;
  maxTokens: number;
  sampling: Sampling;
  /** Requests of one scope may share what is cached of their beginnings. */
  cacheScope: string | undefined;
}

/** A part of the answer, as it comes in one event. */
export interface Piece {
  text: string;
  /** Empty from a server that has no ids to give. */
  tokens: readonly number[];
  /** On the last one: why there are no more. */
  finish: string | undefined;
}

const chunkSchema = z.looseObject({
  error: z.looseObject({ message: z.string(), code: z.number().nullish() }).optional(),
  choices: z
    .array(
      z.looseObject({
        text: z.string().nullish(),
        token_ids: z.array(z.int().min(0)).nullish(),
        finish_reason: z.string().nullish(),
      }),
    )
    .default([]),
});

const wholeSchema = z.looseObject({
  choices: z.array(z.looseObject({ token_ids: z.array(z.int().min(0)).nullish() })).min(1),
  usage: z.looseObject({ prompt_tokens: z.int() }).optional(),
});

/**
 * The pieces of an answer until its finish.
 * @throws ServerError, also when the stream ends before the answer does.
 */
export async function* streamCompletion(
  server: Server,
  request: CompletionRequest,
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  const body = { ...bodyOf(request), stream: true };
  for await (const data of server.postForEvents("/v1/completions", body, signal)) {
    const { error, choices } = readChunk(data);
    if (error !== undefined) {
      const failure = error.code === 400 ? "fatal" : "retryable";
      throw new ServerError(failure, `The server broke off: ${error.message}`);
    }
    for (const { text, token_ids: tokens, finish_reason: finish } of choices) {
      // What vLLM says of a request that it drops while it shuts down.
      if (finish === "abort" || finish === "error") {
        throw new ServerError("retryable", `The server gave the answer up: "${finish}".`);
      }
      yield { text: text ?? "", tokens: tokens ?? [], finish: finish ?? undefined };
      if (finish) return;
    }
  }
  throw new ServerError("retryable", "The answer's stream ended before the answer did.");
}

/** One token, to see what the server gives back: whether there are ids, and how long it thinks the prompt is. */
export async function tryCompletion(server: Server, request: CompletionRequest) {
  const body = { ...bodyOf(request), max_tokens: 1 };
  const reply = wholeSchema.safeParse(await server.postJson("/v1/completions", body, 120_000));
  if (!reply.success) throw new ServerError("fatal", "/v1/completions is answered strangely.");
  const { choices, usage } = reply.data;
  return { hasIds: Array.isArray(choices[0]?.token_ids), promptTokens: usage?.prompt_tokens };
}

function readChunk(data: string): z.infer<typeof chunkSchema> {
  try {
    return chunkSchema.parse(JSON.parse(data));
  } catch (cause) {
    const message = `An event of the answer cannot be read: ${data.slice(0, 200)}`;
    throw new ServerError("fatal", message, { cause });
  }
}

/**
 * Fields of OpenAI's API, and what servers have beyond it. All of the sampling is said, since what is left
 * out is each server's own idea of a default. Off is -1 for top_k, and it is called repetition_penalty by
 * vLLM and SGLang, repeat_penalty by llama.cpp.
 */
function bodyOf({ model, prompt, maxTokens, sampling, cacheScope }: CompletionRequest) {
  const { temperature, topK, topP, minP, repetitionPenalty, seed } = sampling;
  const readsText = typeof prompt === "string";
  return {
    ...{ model, prompt, max_tokens: maxTokens, seed },
    ...{ temperature, top_p: topP, top_k: topK === 0 ? -1 : topK, min_p: minP },
    repetition_penalty: repetitionPenalty,
    ...(readsText ? { repeat_penalty: repetitionPenalty } : { return_token_ids: true }),
    // What one tenant has asked is never found in the cache by another.
    ...(!readsText && cacheScope !== undefined && { cache_salt: cacheScope }),
  };
}
