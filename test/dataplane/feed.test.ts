import { expect, test } from "vitest";
import { Feed } from "../../dataplane/relay/feed.ts";

const feedThatHeard = (...messages: [from: number, epoch: number, ...texts: string[]][]) => {
  const feed = new Feed("t", Promise.resolve(), 0);
  for (const [from, epoch, ...texts] of messages) {
    feed.hear({ kind: "tokens", turnId: "t", epoch, from, texts });
  }
  return feed;
};

test("what comes next is kept with what was there", () => {
  const feed = feedThatHeard([1, 1, "a"], [2, 1, "b", "c"]);
  expect(feed.after(1)?.map(({ text }) => text)).toEqual(["b", "c"]);
});

test("another leader's first words may have been lost: what was there before is not trusted", () => {
  const feed = feedThatHeard([1, 1, "a", "b", "c"], [4, 2, "d"]);
  expect(feed.after(1)).toBeUndefined();
  expect(feed.after(3)).toEqual([{ text: "d", epoch: 2 }]);
});

test("after a gap only what follows it is known", () => {
  const feed = feedThatHeard([1, 1, "a"], [4, 1, "d"]);
  expect(feed.after(1)).toBeUndefined();
  expect(feed.lastSeq).toBe(4);
});
