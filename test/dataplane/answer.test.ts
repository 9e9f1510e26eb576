import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { answerOf } from "../../dataplane/answer.ts";
import type { NewToken } from "../../dataplane/token-writer.ts";

/** Answers of engines that bring the text of their tokens along. */

/** Says the pieces from `from` on, until `mostGiven` tokens were given away. */
function say(
  pieces: readonly string[],
  stop: readonly string[],
  emitted: readonly NewToken[],
  mostGiven = Number.POSITIVE_INFINITY,
): { given: NewToken[]; hasEnded: boolean } {
  const answer = answerOf(undefined, stop);
  answer.resume(emitted);
  const given: NewToken[] = [...emitted];
  for (let token = emitted.length; token < pieces.length && !answer.ended; token++) {
    given.push(...answer.push({ type: "token", token, text: pieces[token] ?? "" }));
    if (given.length >= mostGiven) return { given, hasEnded: answer.ended };
  }
  if (!answer.ended) given.push(...answer.finish());
  return { given, hasEnded: true };
}

const textOf = (tokens: readonly NewToken[]) => tokens.map(({ text }) => text).join("");

function textBefore(text: string, stop: readonly string[]): string {
  const found = stop.map((string) => text.indexOf(string)).filter((at) => at >= 0);
  return text.slice(0, found.length === 0 ? text.length : Math.min(...found));
}

const letters = fc.string({ unit: fc.constantFrom("a", "b", "漢"), maxLength: 4 });
const stops = fc.array(
  fc.string({ unit: fc.constantFrom("a", "b", "漢"), minLength: 1, maxLength: 4 }),
  { maxLength: 3 },
);

describe("an answer whose text comes with its tokens", () => {
  test("is cut where indexOf finds a stop string, whoever goes on with it and when", () => {
    fc.assert(
      fc.property(fc.array(letters, { maxLength: 12 }), stops, fc.nat(12), (pieces, stop, cut) => {
        const whole = say(pieces, stop, []).given;
        expect(textOf(whole)).toBe(textBefore(pieces.join(""), stop));
        const first = say(pieces, stop, [], cut);
        if (first.hasEnded) return;
        // What was given away is all that the model has said: the next one goes on from its text.
        const { given } = first;
        expect(textOf(given)).toBe(pieces.slice(0, given.length).join(""));
        for (let n = 0; n <= given.length; n++) {
          if (n > 0 && given[n - 1]?.text === "") continue;
          expect(textOf(say(pieces, stop, given.slice(0, n)).given)).toBe(textOf(whole));
        }
      }),
    );
  });

  test("gives a token away as soon as all of its text is decided", () => {
    const answer = answerOf(undefined, ["STOP"]);
    const push = (token: number, text: string) =>
      textOf(answer.push({ type: "token", token, text }));
    expect(push(1, "one ")).toBe("one ");
    expect(push(2, "two S")).toBe("");
    expect(push(3, "T")).toBe("");
    expect(push(4, "ART ")).toBe("two START ");
    expect(push(5, "")).toBe("");
    expect(push(6, "漢")).toBe("漢");
    expect(push(7, "x STO")).toBe("");
    expect(push(8, "P y")).toBe("x ");
    expect(answer.ended).toBe(true);
  });

  test("has what was held back, at its end", () => {
    const answer = answerOf(undefined, ["STOP"]);
    expect(answer.push({ type: "token", token: 1, text: "a ST" })).toEqual([]);
    expect(answer.push({ type: "token", token: 2, text: "" })).toEqual([]);
    expect(answer.finish()).toEqual([
      { token: 1, text: "a ST" },
      { token: 2, text: "" },
    ]);
  });
});
