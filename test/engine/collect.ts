import type { Engine, FinishReason, GenerateRequest } from "../../dataplane/engine/engine.ts";

let requests = 0;

export const greedySampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  seed: 0,
};

export function greedy(
  promptTokens: readonly number[],
  maxTokens: number,
  more: Partial<GenerateRequest> = {},
): GenerateRequest {
  requests += 1;
  return {
    id: `request-${requests}`,
    promptTokens,
    emittedTokens: [],
    maxTokens,
    sampling: greedySampling,
    signal: new AbortController().signal,
    ...more,
  };
}

/** The whole answer. `onToken` sees each token as it comes. */
export async function collect(
  engine: Engine,
  request: GenerateRequest,
  onToken: (count: number) => void = () => {},
): Promise<{ tokens: number[]; finish: FinishReason | undefined }> {
  const tokens: number[] = [];
  let finish: FinishReason | undefined;
  for await (const event of engine.generate(request)) {
    if (event.type === "token") onToken(tokens.push(event.token));
    else finish = event.reason;
  }
  return { tokens, finish };
}
