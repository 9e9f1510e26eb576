import { describe, expect, test } from "vitest";
import {
  conversationIdFor,
  positionAt,
  positionSource,
  processId,
  turnIdFor,
} from "../../events/ids.ts";

describe("a turn's id", () => {
  test("is the same for the same request of the same tenant, and no other", () => {
    expect(turnIdFor("acme", "r1")).toBe(turnIdFor("acme", "r1"));
    const ids = [
      turnIdFor("acme", "r1"),
      turnIdFor("acme", "r2"),
      turnIdFor("rival", "r1"),
      // What is joined must not be read as something else.
      turnIdFor("acmer", "1"),
    ];
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("is one that a frame may carry, and makes the conversation's", () => {
    const turnId = turnIdFor("acme", "r1");
    expect(turnId).toMatch(/^turn_[0-9A-HJKMNP-TV-Z]{26}$/);
    expect(conversationIdFor(turnId)).toMatch(/^conv_[0-9A-HJKMNP-TV-Z]{26}$/);
    expect(conversationIdFor(turnId)).toBe(conversationIdFor(turnId));
  });
});

test("a process's id never repeats", () => {
  const ids = Array.from({ length: 1_000 }, () => processId("relay"));
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids[0]).toMatch(/^relay_[0-9A-HJKMNP-TV-Z]{16}$/);
});

describe("positions", () => {
  test("sort in the order of their making, within a millisecond and across", () => {
    let now = 1_700_000_000_000;
    const next = positionSource(() => now);
    const made = Array.from({ length: 5_000 }, (_, i) => {
      if (i % 100 === 99) now++;
      return next();
    });
    expect(made.toSorted()).toEqual(made);
    expect(new Set(made).size).toBe(made.length);
    expect(made.every((position) => /^[0-9A-HJKMNP-TV-Z]{26}$/.test(position))).toBe(true);
  });

  test("never go back when the clock does", () => {
    let now = 1_700_000_000_000;
    const next = positionSource(() => now);
    const before = next();
    now -= 60_000;
    const during = [next(), next()];
    now += 60_001;
    const after = next();
    const made = [before, ...during, after];
    expect(made.toSorted()).toEqual(made);
    expect(new Set(made).size).toBe(4);
  });

  test("of two writers in the same millisecond differ", () => {
    const sources = Array.from({ length: 200 }, () => positionSource(() => 1_700_000_000_000));
    expect(new Set(sources.map((next) => next())).size).toBe(200);
  });

  test("are at or above the lowest of their time, and below that of the next millisecond", () => {
    const at = 1_700_000_000_000;
    const position = positionSource(() => at)();
    expect(position >= positionAt(at)).toBe(true);
    expect(position < positionAt(at + 1)).toBe(true);
  });
});
