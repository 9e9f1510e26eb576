import type { GenerateRequest } from "../engine/engine.ts";
import { EngineError } from "../engine/engine-error.ts";
import type { ServerError } from "./server.ts";

/**
 * Refuses, before anything is sent, what cannot be: EngineError "prompt_too_long" or "invalid_request",
 * naming the request and the field. What only the server knows it refuses itself.
 */
export function checkServedRequest(
  request: GenerateRequest,
  {
    speaks,
    contextLength,
    vocabularySize = Number.POSITIVE_INFINITY,
  }: { speaks: "ids" | "text"; contextLength: number; vocabularySize?: number | undefined },
): void {
  const { id, promptTokens, emittedTokens, maxTokens, text, sampling } = request;
  const need = (holds: boolean, what: string) => {
    if (!holds) throw new EngineError("invalid_request", `Request ${id}: ${what}.`);
  };
  need(promptTokens.length > 0, "promptTokens must not be empty");
  if (promptTokens.length >= contextLength) {
    throw new EngineError(
      "prompt_too_long",
      `Request ${id}: the prompt has ${promptTokens.length} tokens; the context of ${contextLength} ` +
        "has to hold it and an answer.",
    );
  }
  const isToken = (token: number) =>
    Number.isInteger(token) && token >= 0 && token < vocabularySize;
  const range = `integers from 0 to below ${vocabularySize}`;
  need(promptTokens.every(isToken), `promptTokens must hold ${range}`);
  need(emittedTokens.every(isToken), `emittedTokens must hold ${range}`);
  need(Number.isInteger(maxTokens) && maxTokens > 0, "maxTokens must be an integer above 0");
  need(sampling.topP > 0 && sampling.topP <= 1, "topP must be above 0 and at most 1");
  need(speaks === "ids" || text !== undefined, "an engine that reads text needs the text");
}

/** How servers say that the context does not hold a prompt: vLLM, SGLang, TGI, llama.cpp. */
const tooLong =
  /maximum context length|max_model_len|exceeds? (the )?(available |model'?s? )?context|context (length|size)|longer than the model|inputs?` (tokens|must have)/i;

/**
 * What a reply means that says that the request is wrong. "refused": it is not the request, but who sends
 * it, or the model is not there any more: no request will succeed.
 */
export function refusalOf(id: string, error: ServerError): EngineError {
  const { status, message } = error;
  const isForAll = status === 401 || status === 403 || status === 404;
  const isTooLong = tooLong.test(message);
  const code = isForAll ? "refused" : isTooLong ? "prompt_too_long" : "invalid_request";
  return new EngineError(code, `Request ${id}: ${message}`, { cause: error });
}
