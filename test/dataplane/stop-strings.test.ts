import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AnswerText } from "../../dataplane/stop-strings.ts";
import type { Detokenizer } from "../../dataplane/tokenizer.ts";

/** A detokenizer whose token n is the nth piece; a piece of "" completes no character. */
function detokenizerOf(pieces: readonly string[]): Detokenizer {
  return { push: (token) => pieces[token] ?? "", flush: () => "" };
}

/** What is decided after each of the pieces, and at the end. */
function read(pieces: readonly string[], stop: readonly string[]) {
  const answer = new AnswerText(detokenizerOf(pieces), stop);
  const steps = pieces.map((_, token) => {
    answer.push(token);
    return answer.decided;
  });
  const { ended } = answer;
  answer.finish();
  return { steps, whole: answer.decided, endedEarly: ended, ended: answer.ended };
}

/** The text before the first of the stop strings. */
function textBefore(text: string, stop: readonly string[]): string {
  const found = stop.map((string) => text.indexOf(string)).filter((at) => at >= 0);
  return text.slice(0, found.length === 0 ? text.length : Math.min(...found));
}

describe("an answer's text", () => {
  test.each<[string, string[], string[], string[]]>([
    ["without stop strings is decided at once", ["a", "b"], [], ["a", "ab"]],
    ["ends within a token", ["one STOP two"], ["STOP"], ["one "]],
    ["ends across tokens", ["one S", "TO", "P two"], ["STOP"], ["one ", "one ", "one "]],
    ["goes on when it was none", ["one S", "TO", "RM"], ["STOP"], ["one ", "one ", "one STORM"]],
    ["falls back to a later beginning", ["aa", "a", "b"], ["aab"], ["", "a", "a"]],
    ["is empty when it begins with one", ["\n", "\n", "x"], ["\n\n"], ["", "", ""]],
    ["ends before the first of several", ["x b", " a"], ["a", "b"], ["x ", "x "]],
    ["waits for a longer one that began before", ["xa", "b", "c"], ["abcd", "b"], ["x", "x", "x"]],
    ["ends at the shorter of two that begin alike", ["xa", "bc"], ["ab", "abc"], ["x", "x"]],
  ])("%s", (_, pieces, stop, steps) => {
    expect(read(pieces, stop).steps).toEqual(steps);
  });

  test("is whole at the end, as far as no stop string is in it", () => {
    expect(read(["one S", "TO"], ["STOP"])).toMatchObject({ whole: "one STO", ended: false });
    const shorter = read(["xa", "b", "c"], ["abcd", "b"]);
    expect(shorter).toMatchObject({ endedEarly: false, ended: true, whole: "xa" });
  });

  test("says whether the end would decide more", () => {
    const answer = new AnswerText(detokenizerOf(["", "é", "S", "!", "STOP", "S"]), ["STOP"]);
    const held = [0, 1, 2, 3, 4, 5].map((token) => {
      answer.push(token);
      return answer.holdsBack;
    });
    expect(held).toEqual([true, false, true, false, false, false]);
    expect(answer).toMatchObject({ decided: "éS!", ended: true });
  });
});

/** Few letters, so that stop strings occur, begin without an end, and overlap; and one of two units. */
const letters = fc.constantFrom("a", "b", "c", "🚀", "é");
const pieces = fc.array(fc.string({ unit: letters, maxLength: 5 }), { maxLength: 20 });
const stops = fc.array(fc.string({ unit: letters, minLength: 1, maxLength: 5 }), { maxLength: 4 });

describe("whatever the text, its tokens and the stop strings", () => {
  test("the answer is what indexOf would leave of it", () => {
    fc.assert(
      fc.property(pieces, stops, (texts, stop) => {
        const text = texts.join("");
        const { whole, ended } = read(texts, stop);
        expect(whole).toBe(textBefore(text, stop));
        expect(ended).toBe(stop.some((string) => text.includes(string)));
      }),
      { numRuns: 5_000 },
    );
  });

  test("nothing decided is taken back, and never half a character", () => {
    fc.assert(
      fc.property(pieces, stops, (texts, stop) => {
        const { steps, whole } = read(texts, stop);
        for (const [i, step] of [...steps, whole].entries()) {
          expect(step.startsWith(steps[i - 1] ?? "")).toBe(true);
          expect(step.isWellFormed()).toBe(true);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  test("no more is held back than what begins a stop string", () => {
    fc.assert(
      fc.property(pieces, stops, (texts, stop) => {
        const { steps } = read(texts, stop);
        steps.forEach((decided, i) => {
          const text = texts.slice(0, i + 1).join("");
          if (textBefore(text, stop) !== text) return;
          const held = text.slice(decided.length);
          if (held !== "") expect(stop.some((string) => string.startsWith(held))).toBe(true);
        });
      }),
      { numRuns: 1_000 },
    );
  });
});
