import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import { z } from "zod";
import type { ChatMessage } from "../events/jobs.ts";

/** The model's tokenizer and chat template: messages in, token ids out, and token ids to text. */
export interface ChatTokenizer {
  /** The prompt of a conversation, ready for the assistant to go on. */
  encodeChat(messages: readonly ChatMessage[]): number[];
  /** Turns the answer's tokens into text, one by one. */
  detokenizer(): Detokenizer;
}

interface Detokenizer {
  /** The text that the token completes; "" as long as a character is incomplete. */
  push(token: number): string;
  /** What is left at the end: broken characters, as U+FFFD. */
  flush(): string;
}

const addedTokenSchema = z.looseObject({ id: z.int(), content: z.string(), special: z.boolean() });
const tokenizerSchema = z.looseObject({ added_tokens: z.array(addedTokenSchema).default([]) });
const namedTokenSchema = z
  .union([z.string(), z.looseObject({ content: z.string() })])
  .transform((token) => (typeof token === "string" ? token : token.content));
const configSchema = z.looseObject({
  chat_template: z.string(),
  bos_token: namedTokenSchema.nullish(),
  eos_token: namedTokenSchema.nullish(),
});

/**
 * Loads tokenizer.json and tokenizer_config.json of a Hugging Face model.
 * @throws Error naming the file, when one is missing or has no chat template.
 */
export async function loadTokenizer(modelDir: string): Promise<ChatTokenizer> {
  const tokenizerJson = tokenizerSchema.parse(await readJson(modelDir, "tokenizer.json"));
  const config = configSchema.parse(await readJson(modelDir, "tokenizer_config.json"));
  const tokenizer = new Tokenizer(tokenizerJson, config);
  const template = new Template(config.chat_template);
  const special = tokenizerJson.added_tokens
    .filter((token) => token.special)
    .map((token) => token.content);
  return {
    encodeChat(messages) {
      const prompt = template.render({
        messages: messages.map(({ role, content }) => ({
          role,
          content: defuse(content, special),
        })),
        add_generation_prompt: true,
        bos_token: config.bos_token ?? "",
        eos_token: config.eos_token ?? "",
      });
      return tokenizer.encode(prompt, { add_special_tokens: false }).ids;
    },
    detokenizer: () => incrementalDetokenizer(tokenizer),
  };
}

async function readJson(modelDir: string, file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(join(modelDir, file), "utf8"));
  } catch (cause) {
    throw new Error(`${join(modelDir, file)} cannot be read: is this a model's folder?`, { cause });
  }
}

/** A character has at most four bytes, and a token may end one and begin the next. */
const mostTokensOfACharacter = 8;

const wordJoiner = "\u2060";

/**
 * Makes control tokens that a user typed into plain text, so that nobody can end their own message
 * and speak as the system: an invisible word joiner after the first character of each keeps the
 * tokenizer from finding it. No special token contains a word joiner, so none can appear anew.
 */
function defuse(content: string, specialTokens: readonly string[]): string {
  for (const token of specialTokens) {
    const broken = token.slice(0, 1) + wordJoiner + token.slice(1);
    while (content.includes(token)) content = content.replaceAll(token, broken);
  }
  return content;
}

/**
 * Decodes the tokens since the last complete character together with those of the text before it:
 * a decoder may write a token differently at the start of a text (a leading space, for one), so the
 * new text is what the longer decoding has beyond the shorter one.
 */
function incrementalDetokenizer(tokenizer: Tokenizer): Detokenizer {
  let shown: number[] = [];
  let waiting: number[] = [];
  const decode = (ids: number[]) =>
    ids.length === 0 ? "" : tokenizer.decode(ids, { skip_special_tokens: true });
  const beyond = () => decode([...shown, ...waiting]).slice(decode(shown).length);
  return {
    push(token) {
      waiting.push(token);
      const text = beyond();
      // An incomplete character decodes to U+FFFD at the end. One that stays so is really broken.
      if (text === "" || (text.endsWith("\ufffd") && waiting.length < mostTokensOfACharacter))
        return "";
      shown = waiting;
      waiting = [];
      return text;
    },
    flush() {
      const text = waiting.length === 0 ? "" : beyond();
      waiting = [];
      return text;
    },
  };
}
