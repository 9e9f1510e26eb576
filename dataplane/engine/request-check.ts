import type { CheckpointDescription, GenerateRequest } from "./engine.ts";
import { EngineError } from "./engine-error.ts";

/**
 * Refuses, before anything runs, what the engine cannot do: EngineError "prompt_too_long" or
 * "invalid_request", naming the request and the field.
 */
export function checkRequest(
  request: GenerateRequest,
  { contextLength, vocabularySize }: CheckpointDescription,
): void {
  const { id, promptTokens, emittedTokens, maxTokens, sampling } = request;
  const need = (holds: boolean, field: string, rule: string) => {
    if (holds) return;
    throw new EngineError("invalid_request", `Request ${id}: ${field} ${rule}.`);
  };
  const isToken = (token: number) =>
    Number.isInteger(token) && token >= 0 && token < vocabularySize;
  need(promptTokens.length > 0, "promptTokens", "must not be empty");
  if (promptTokens.length >= contextLength) {
    throw new EngineError(
      "prompt_too_long",
      `Request ${id}: the prompt has ${promptTokens.length} tokens; the context of ${contextLength} ` +
        "has to hold it and an answer.",
    );
  }
  const tokenRule = `must hold integers from 0 to ${vocabularySize - 1}`;
  need(promptTokens.every(isToken), "promptTokens", tokenRule);
  need(emittedTokens.every(isToken), "emittedTokens", tokenRule);
  need(Number.isInteger(maxTokens) && maxTokens > 0, "maxTokens", "must be an integer above 0");
  const { temperature, topK, topP, minP, repetitionPenalty, seed } = sampling;
  need(Number.isFinite(temperature) && temperature >= 0, "temperature", "must be 0 or more");
  need(Number.isInteger(topK) && topK >= 0, "topK", "must be an integer, 0 or more");
  need(topP > 0 && topP <= 1, "topP", "must be above 0 and at most 1");
  need(minP >= 0 && minP <= 1, "minP", "must be from 0 to 1");
  const isFactor = Number.isFinite(repetitionPenalty) && repetitionPenalty > 0;
  need(isFactor, "repetitionPenalty", "must be above 0");
  need(Number.isSafeInteger(seed) && seed >= 0, "seed", "must be an integer, 0 or more");
}
