import type { Detokenizer } from "./tokenizer.ts";

/**
 * Where an answer ends by its text, while it still comes token by token.
 *
 * Tokens have borders of their own: one may hold half a character, or the beginning of a stop string
 * that another completes. So after each token a part of the text is decided, and the rest is held
 * back: an incomplete character, or the longest end of the text that begins a stop string. Nobody
 * gets to see what is held back before a later token, or the end of the answer, decides it.
 *
 * How text belongs to tokens, so that resume and takeover stay exact:
 *
 * - The text of token n is what is decided after tokens 1…n beyond what was decided after 1…n−1.
 *   Text that was held back comes with the token that decides it; the tokens of a stop string have
 *   "" for what is cut off. So the stream's text follows from its token ids and from nothing else:
 *   whoever takes it over, after whatever token, reads the ids again and knows as much as the leader
 *   before it, whether a stop string has begun, or has been completed.
 * - The last token of an answer also carries what its end decides. So a token after which text is
 *   held back waits until there is another one. Nothing that waits is given to the stream when a
 *   turn is handed over: there has been no end, and the next leader draws the same tokens again.
 *
 * The answer is cut where a stop string occurs first, as `indexOf` would find it in the whole answer:
 * a shorter one that is complete has to wait for a longer one that began before it.
 */
export class AnswerText {
  readonly #detokenizer: Detokenizer;
  readonly #cut: StopCut;
  #inCharacter = false;

  constructor(detokenizer: Detokenizer, stop: readonly string[]) {
    this.#detokenizer = detokenizer;
    this.#cut = new StopCut(stop);
  }

  /** All that is decided. A string of whole characters that only grows. */
  get decided(): string {
    return this.#cut.decided;
  }

  /** A stop string was found; `decided` ends before it, and there is no more to come. */
  get ended(): boolean {
    return this.#cut.ended;
  }

  /** Whether the end of the answer, if it came now, would decide more text. */
  get holdsBack(): boolean {
    return this.#inCharacter || this.#cut.holdsBack;
  }

  push(token: number): void {
    if (this.ended) return;
    const text = this.#detokenizer.push(token);
    this.#inCharacter = text === "";
    this.#cut.take(text);
  }

  /** The answer has no more tokens: decides what was held back. */
  finish(): void {
    if (this.ended) return;
    this.#inCharacter = false;
    this.#cut.take(this.#detokenizer.flush(), { isLast: true });
  }
}

/** Text as it comes, up to where the first stop string begins. */
export class StopCut {
  /** All that is decided, which only grows. */
  decided = "";
  /** A stop string was found; `decided` ends before it. */
  ended = false;
  readonly #stop: readonly string[];
  #undecided = "";

  constructor(stop: readonly string[]) {
    this.#stop = stop;
  }

  /** Whether the end of the text may be the beginning of a stop string. */
  get holdsBack(): boolean {
    return this.#undecided !== "";
  }

  take(text: string, { isLast = false } = {}): void {
    if (this.ended) return;
    const cut = cutAtStop(this.#undecided + text, this.#stop, isLast);
    this.decided += cut.decided;
    this.#undecided = cut.undecided;
    this.ended = cut.ended;
  }
}

/** Goes through the text until a stop string stands there, or may stand there once more is known. */
function cutAtStop(
  text: string,
  stop: readonly string[],
  isLast: boolean,
): { decided: string; undecided: string; ended: boolean } {
  for (let at = 0; at < text.length; at++) {
    const decided = text.slice(0, at);
    if (stop.some((string) => text.startsWith(string, at))) {
      return { decided, undecided: "", ended: true };
    }
    const rest = text.slice(at);
    if (!isLast && stop.some((string) => string.startsWith(rest))) {
      return { decided, undecided: rest, ended: false };
    }
  }
  return { decided: text, undecided: "", ended: false };
}
