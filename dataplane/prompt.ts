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
  const others = messages.filter((message) => message.role !== "system");

  async function promptFrom(start: number | undefined): Promise<Prompt | undefined> {
    const kept = [...system, ...others.slice(start)];
    const tokens = await tokenizer.encodeChat(kept);
    if (tokens.length > room) return undefined;
    const text = tokenizer.renderChat?.(kept);
    return { tokens, ...(text !== undefined && { text }) };
  }

  const starts = startsOf(others);
  if (starts.length === 0) return undefined;
  let found = await promptFrom(starts[0]);
  if (found !== undefined) return found;
  // By halving: a conversation may have thousands of messages, and to read them takes the leader's time.
  let [low, high] = [1, starts.length - 1];
  while (low <= high) {
    const middle = Math.floor((low + high) / 2);
    const shorter = await promptFrom(starts[middle]);
    if (shorter === undefined) low = middle + 1;
    else {
      found = shorter;
      high = middle - 1;
    }
  }
  return found;
}

/** Where a conversation may begin: an answer whose question is gone would only confuse. */
function startsOf(messages: readonly ChatMessage[]): number[] {
  const starts: number[] = [];
  for (let start = 0; start < messages.length; ) {
    starts.push(start++);
    if (messages[start]?.role === "assistant") start++;
  }
  return starts;
}
