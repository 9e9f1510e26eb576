import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import type { ChatMessage } from "../events/jobs.ts";
import { defuse } from "./control-tokens.ts";
import { TokenizerError } from "./tokenizer-error.ts";
import { readTokenizerFiles } from "./tokenizer-files.ts";

/** The model's tokenizer and chat template: messages in, token ids out, and token ids to text. */
export interface ChatTokenizer {
  /** The prompt of a conversation, ready for the assistant to go on. */
  encodeChat(messages: readonly ChatMessage[]): readonly number[] | Promise<readonly number[]>;
  /** A text as it stands, without the chat template: what looks like a control token is one. */
  encodeText(text: string): readonly number[] | Promise<readonly number[]>;
  /** The same as text, where the engine reads text. */
  renderChat?(messages: readonly ChatMessage[]): string;
  /** Turns the answer's tokens into text, one by one; undefined where the engine does that itself. */
  detokenizer(): Detokenizer | undefined;
}

/** A tokenizer that works in this process, from the model's files. */
export interface LocalTokenizer extends ChatTokenizer {
  encodeChat(messages: readonly ChatMessage[]): number[];
  encodeText(text: string): number[];
  /** The text of the prompt, control tokens included. */
  render(messages: readonly ChatMessage[]): string;
  detokenizer(): Detokenizer;
  /** What the chat template calls the beginning of a text; "" where the model has none. */
  beginText: string;
}

export interface Detokenizer {
  /** The text that the token completes; "" as long as a character is incomplete. */
  push(token: number): string;
  /** What is left at the end: broken characters, as U+FFFD. */
  flush(): string;
}

/**
 * Loads the tokenizer and the chat template of a model: a folder in the layout of Hugging Face, a
 * GGUF file, or a folder with one. Throws TokenizerError, or EngineError for a damaged GGUF file.
 */
export async function loadTokenizer(modelPath: string): Promise<LocalTokenizer> {
  const files = await readTokenizerFiles(modelPath);
  const { json, config } = files;
  const tokenizer = checked(modelPath, () => new Tokenizer(json, config));
  const template = chatTemplate(modelPath, config.chat_template);
  const special = json.added_tokens.filter((token) => token.special).map((token) => token.content);
  const render = (messages: readonly ChatMessage[]) =>
    template.render({
      messages: messages.map(({ role, content }) => ({ role, content: defuse(content, special) })),
      add_generation_prompt: true,
      bos_token: config.bos_token ?? "",
      eos_token: config.eos_token ?? "",
    });
  const encode = (textOf: () => string, add_special_tokens: boolean) => {
    const ids = checked(modelPath, () => tokenizer.encode(textOf(), { add_special_tokens }).ids);
    if (!ids.every(Number.isSafeInteger)) {
      const message = `The tokenizer of ${modelPath} has no token for a part of the prompt.`;
      throw new TokenizerError("invalid_tokenizer", message);
    }
    const { beginId } = files;
    return beginId === undefined || ids[0] === beginId ? ids : [beginId, ...ids];
  };
  return {
    beginText: config.bos_token ?? "",
    render: (messages) => checked(modelPath, () => render(messages)),
    encodeChat: (messages) => encode(() => render(messages), false),
    // The template writes the begin token itself; before a text the tokenizer does, where the model has one.
    encodeText: (text) => encode(() => text, true),
    detokenizer: () => incrementalDetokenizer(tokenizer),
  };
}

function chatTemplate(modelPath: string, source: string | null | undefined): Template {
  if (typeof source === "string") return checked(modelPath, () => new Template(source));
  throw new TokenizerError(
    "no_chat_template",
    `${modelPath} has no chat template, so it cannot be chatted with. Take the "instruct" or "chat" ` +
      "variant of the model, or add its template as chat_template.jinja.",
  );
}

/** What a library makes of a model's files. Throws TokenizerError when it fails. */
function checked<T>(modelPath: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `The tokenizer of ${modelPath} cannot be used: ${why.slice(0, 200)}`;
    throw new TokenizerError("invalid_tokenizer", message, { cause });
  }
}

/** A character has at most four bytes, and a token may end one and begin the next. */
const mostTokensOfACharacter = 8;

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
