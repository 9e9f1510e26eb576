import type { EngineEvent } from "./engine/engine.ts";
import { AnswerText, StopCut } from "./stop-strings.ts";
import type { NewToken } from "./token-writer.ts";
import type { Detokenizer } from "./tokenizer.ts";

type TokenEvent = Extract<EngineEvent, { type: "token" }>;

/** An answer while its tokens come: which of them can be given to the stream, and with what text. */
export interface Answer {
  /** A stop string was found: there is no more to come. */
  readonly ended: boolean;
  /** Goes on after tokens that an earlier leader has given to the stream. */
  resume(emitted: readonly NewToken[]): void;
  /** @returns the tokens that can be given away now, in order. */
  push(event: TokenEvent): NewToken[];
  /** The engine has no more to say. @returns what has waited. */
  finish(): NewToken[];
}

/** The answer of an engine that says ids; one that brings its text along has no `detokenizer`. */
export function answerOf(detokenizer: Detokenizer | undefined, stop: readonly string[]): Answer {
  return detokenizer === undefined ? new TextAnswer(stop) : new TokenAnswer(detokenizer, stop);
}

/**
 * Ids that are turned into text here. A token whose text is not known yet waits (stop-strings.ts says
 * how long), and one that has no text waits for one that has.
 */
class TokenAnswer implements Answer {
  readonly #text: AnswerText;
  readonly #waiting: NewToken[] = [];
  #said = 0;

  constructor(detokenizer: Detokenizer, stop: readonly string[]) {
    this.#text = new AnswerText(detokenizer, stop);
  }

  get ended(): boolean {
    return this.#text.ended;
  }

  resume(emitted: readonly NewToken[]): void {
    for (const { token, text } of emitted) {
      this.#text.push(token);
      this.#said += text.length;
    }
  }

  push({ token }: TokenEvent): NewToken[] {
    this.#text.push(token);
    this.#waiting.push({ text: this.#sayMore(), token });
    if (this.ended) return this.#waiting.splice(0);
    const known = this.#text.holdsBack ? this.#waiting.length - 1 : this.#waiting.length;
    const hasText = this.#waiting.slice(0, known).some(({ text }) => text !== "");
    return hasText ? this.#waiting.splice(0, known) : [];
  }

  finish(): NewToken[] {
    this.#text.finish();
    const last = this.#waiting.at(-1);
    if (last !== undefined) last.text += this.#sayMore();
    return this.#waiting.splice(0);
  }

  #sayMore(): string {
    const text = this.#text.decided.slice(this.#said);
    this.#said += text.length;
    return text;
  }
}

/**
 * Tokens that come with their text. Whoever takes the answer over has no way to turn their ids into
 * text, or has no ids at all. So a token is given away only when all of its text is decided, and none
 * after the last that has text: then the stream's text is all that the model has said, it ends in no
 * beginning of a stop string, and the next leader starts with nothing held back.
 */
class TextAnswer implements Answer {
  readonly #cut: StopCut;
  readonly #waiting: NewToken[] = [];
  #said = 0;

  constructor(stop: readonly string[]) {
    this.#cut = new StopCut(stop);
  }

  get ended(): boolean {
    return this.#cut.ended;
  }

  resume(): void {}

  push({ token, text = "" }: TokenEvent): NewToken[] {
    this.#cut.take(text);
    this.#waiting.push({ text, token });
    if (this.ended) return this.#cutShort();
    let room = this.#cut.decided.length - this.#said;
    let known = 0;
    for (const [i, waiting] of this.#waiting.entries()) {
      room -= waiting.text.length;
      if (room < 0) break;
      if (waiting.text !== "") known = i + 1;
    }
    return this.#give(known);
  }

  finish(): NewToken[] {
    this.#cut.take("", { isLast: true });
    return this.#cutShort();
  }

  /** All that waits, with no more text than is decided. */
  #cutShort(): NewToken[] {
    let room = this.#cut.decided.length - this.#said;
    for (const waiting of this.#waiting) {
      waiting.text = waiting.text.slice(0, room);
      room -= waiting.text.length;
    }
    return this.#give(this.#waiting.length);
  }

  #give(count: number): NewToken[] {
    const given = this.#waiting.splice(0, count);
    for (const { text } of given) this.#said += text.length;
    return given;
  }
}
