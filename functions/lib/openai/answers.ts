import type { StreamEnd } from "../../../events/redis-keys.ts";
import type { Usage } from "../../../events/turn-events.ts";
import type { RequestedTurn } from "../streams.ts";

/** What this API calls an answer: whole, or in chunks. */
export interface Shape {
  /** Before the first text; nothing where there is nothing to say. */
  opening: object | undefined;
  piece(text: string): object;
  ending(end: StreamEnd): object;
  usage(end: StreamEnd): object;
  whole(text: string, end: StreamEnd): object;
}

/** Chat or completion, by how the turn was asked for. */
export function shapeOf(turn: RequestedTurn): Shape {
  return turn.promptFormat === "raw" ? completionShape(turn) : chatShape(turn);
}

const namesOf = ({ turnId, model, revision, requestedAt }: RequestedTurn) => ({
  id: turnId,
  /** Unix time in seconds. */
  created: Math.floor(requestedAt / 1_000),
  model,
  system_fingerprint: revision,
});

const usageOf = ({ promptTokens, completionTokens }: Usage) => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
});

function chatShape(turn: RequestedTurn): Shape {
  const chunk = (delta: object, reason: string | null = null) => ({
    ...{ object: "chat.completion.chunk", ...namesOf(turn) },
    choices: [{ index: 0, delta, logprobs: null, finish_reason: reason }],
  });
  return {
    opening: chunk({ role: "assistant", content: "" }),
    piece: (content) => chunk({ content }),
    ending: ({ finishReason }) => chunk({}, finishReason),
    usage: ({ usage }) => ({ ...chunk({}), choices: [], usage: usageOf(usage) }),
    whole: (content, { finishReason, usage }) => ({
      ...{ object: "chat.completion", ...namesOf(turn) },
      choices: [
        {
          ...{ index: 0, message: { role: "assistant", content, refusal: null } },
          ...{ logprobs: null, finish_reason: finishReason },
        },
      ],
      usage: usageOf(usage),
    }),
  };
}

function completionShape(turn: RequestedTurn): Shape {
  const part = (text: string, reason: string | null = null) => ({
    ...{ object: "text_completion", ...namesOf(turn) },
    choices: [{ index: 0, text, logprobs: null, finish_reason: reason }],
  });
  return {
    opening: undefined,
    piece: (text) => part(text),
    ending: ({ finishReason }) => part("", finishReason),
    usage: ({ usage }) => ({ ...part(""), choices: [], usage: usageOf(usage) }),
    whole: (text, { finishReason, usage }) => ({
      ...part(text, finishReason),
      usage: usageOf(usage),
    }),
  };
}
