import type { ChatMessage } from "../events/jobs.ts";
import type { ChatTokenizer } from "./tokenizer.ts";

/** The share of the context that is kept free for the answer, if the answer may be that long. */
const answerShare = 1 / 4;

/** A conversation as the engine reads it. */
export interface Prompt {
  tokens: readonly number[];
  /** The same as text, where the engine reads text. */
  text?: string;
}

/** How many tokens a prompt may have: a share of the context is for the answer, if it may be that long. */
const roomFor = ({ contextLength, maxTokens }: Room): number =>
  contextLength - Math.min(maxTokens, Math.floor(contextLength * answerShare));

interface Room {
  contextLength: number;
  maxTokens: number;
}

/**
 * A text that is no conversation, read as it stands.
 * @returns undefined when it is too long for the model: nothing is left out of it.
 */
export async function rawPrompt(
  tokenizer: ChatTokenizer,
  text: string,
  room: Room,
): Promise<Prompt | undefined> {
  const tokens = await tokenizer.encodeText(text);
  if (tokens.length > roomFor(room)) return undefined;
  return { tokens, ...(tokenizer.renderChat !== undefined && { text }) };
}

/**
 * The prompt of a conversation that leaves room for an answer: the oldest messages are left out
 * until it fits. The system message and the last one always stay.
 * @returns undefined when even those two are too long for the model.
 */
export async function fitPrompt(
  tokenizer: ChatTokenizer,
  messages: readonly ChatMessage[],
  limits: Room,
): Promise<Prompt | undefined> {
  const room = roomFor(limits);
  const system = messages.filter((message) => message.role === "system");
  let rest = messages.filter((message) => message.role !== "system");
  while (rest.length > 0) {
    const kept = [...system, ...rest];
    const tokens = await tokenizer.encodeChat(kept);
    if (tokens.length <= room) {
      const text = tokenizer.renderChat?.(kept);
      return { tokens, ...(text !== undefined && { text }) };
    }
    const oldest = rest.slice(1);
    // An answer whose question is gone would only confuse: a conversation starts with its user.
    rest = oldest[0]?.role === "assistant" ? oldest.slice(1) : oldest;
  }
  return undefined;
}
