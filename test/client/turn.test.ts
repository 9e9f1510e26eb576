import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { FollowedTurn, type TurnFrame, type TurnUpdate } from "../../client/turn.ts";
import { counting, done, rewind, tokens } from "./scripted-server.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A turn that is given frames by hand: what it tells its reader, and what it sends. */
function follow(quietMs = 10_000) {
  const sent: object[] = [];
  const reminded: number[] = [];
  let left = 0;
  const turn = new FollowedTurn({
    send: (frame) => sent.push(frame),
    remind: () => reminded.push(Date.now()),
    leave: () => left++,
    quietMs,
  });
  turn.turnId = "t";
  const updates: TurnUpdate[] = [];
  const reading = (async () => {
    for await (const update of turn) updates.push(update);
  })();
  return { turn, sent, reminded, updates, reading, left: () => left };
}

const at = (from: number, to: number, epoch = 1, text?: string) =>
  tokens("t", from, to, text === undefined ? { epoch } : { epoch, text }) as TurnFrame;
const ended = (lastSeq: number, epoch?: number) => done("t", lastSeq, epoch) as TurnFrame;
const back = (to: number) => rewind("t", to) as TurnFrame;
const asks = (after: number, epoch: number) => ({ action: "resume", turnId: "t", after, epoch });

interface Case {
  given: TurnFrame[];
  /** The answer as it stands then. */
  leaves: string;
  asked?: object[];
  ended?: boolean;
}

const cases: Record<string, Case> = {
  "what comes next is applied": { given: [at(1, 2), at(3, 3)], leaves: "1 2 3 " },
  "another leader's tokens are applied where they come next": {
    given: [at(1, 2), at(3, 3, 2), at(4, 4, 4)],
    leaves: "1 2 3 4 ",
  },
  "a repeat is skipped": { given: [at(1, 3), at(1, 3), at(2, 2)], leaves: "1 2 3 " },
  "a process of the past is ignored, whatever it says": {
    given: [at(1, 3, 2), at(4, 4, 1, "old "), at(2, 5, 1, "old "), at(9, 9, 1, "old ")],
    leaves: "1 2 3 ",
  },
  "a gap is asked about": { given: [at(1, 3), at(5, 5)], leaves: "1 2 3 ", asked: [asks(3, 1)] },
  "a gap that another leader leaves is asked about": {
    given: [at(1, 3), at(5, 5, 2)],
    leaves: "1 2 3 ",
    asked: [asks(3, 1)],
  },
  "an overlap is asked about": {
    given: [at(1, 3), at(2, 5)],
    leaves: "1 2 3 ",
    asked: [asks(3, 1)],
  },
  "a later leader's tokens in applied places are asked about, and these places given up": {
    given: [at(1, 2), at(3, 3), at(4, 5), at(4, 4, 2, "new ")],
    leaves: "1 2 3 ",
    asked: [asks(3, 1)],
  },
  "what follows such tokens is not joined to what they replace": {
    given: [at(1, 3), at(4, 5), at(4, 5, 2, "new "), at(6, 6, 2), ended(6, 2)],
    leaves: "1 2 3 ",
    asked: [asks(3, 1)],
  },
  "the answer told from the log is applied": {
    given: [at(1, 2, 0), at(3, 4, 0), ended(4, 0)],
    leaves: "1 2 3 4 ",
    ended: true,
  },
  "the log may end what the stream has told": {
    given: [at(1, 2, 3), ended(2, 0)],
    leaves: "1 2 ",
    ended: true,
  },
  "a rewind cuts back, and the epoch with it": {
    given: [at(1, 3, 1), at(4, 5, 2), back(3), at(9, 9, 3)],
    leaves: "1 2 3 ",
    asked: [asks(3, 1)],
  },
  "after a rewind the earlier leader's tokens may come again": {
    given: [at(1, 3, 1), at(4, 5, 2), back(3), at(4, 4, 1)],
    leaves: "1 2 3 4 ",
  },
  "a rewind into a piece asks for what was dropped of it": {
    given: [at(1, 2), at(3, 6), back(4)],
    leaves: "1 2 ",
    asked: [asks(2, 1)],
  },
  "a rewind beyond the answer cuts nothing, and what is missing is asked for": {
    given: [at(1, 2), back(7)],
    leaves: "1 2 ",
    asked: [asks(2, 1)],
  },
  "the end of what is here ends the turn": {
    given: [at(1, 2), at(3, 3, 2), ended(3, 2)],
    leaves: "1 2 3 ",
    ended: true,
  },
  "the end of an empty answer ends the turn": { given: [ended(0)], leaves: "", ended: true },
  "an end that comes too early is asked about": {
    given: [at(1, 2), ended(3)],
    leaves: "1 2 ",
    asked: [asks(2, 1)],
  },
  "an end before the end of what is here is asked about": {
    given: [at(1, 4), ended(2)],
    leaves: "1 2 3 4 ",
    asked: [asks(4, 1)],
  },
  "an end of a later leader's tokens is asked about": {
    given: [at(1, 3), ended(3, 2)],
    leaves: "1 2 3 ",
    asked: [asks(3, 1)],
  },
  "where the record has lost the last leader, all is asked for": {
    given: [at(1, 3, 2), ended(3, 1)],
    leaves: "",
    asked: [asks(0, 0)],
  },
  "the same is asked for once": {
    given: [at(1, 3), at(5, 5), at(6, 6), ended(6)],
    leaves: "1 2 3 ",
    asked: [asks(3, 1)],
  },
};

describe("a followed turn:", () => {
  test.each(Object.entries(cases))(
    "%s",
    async (_, { given, leaves, asked = [], ended = false }) => {
      const { turn, sent, updates, reading, left } = follow();
      for (const frame of given) turn.apply(frame);
      await vi.advanceTimersByTimeAsync(0);
      expect(turn.progress.text).toBe(leaves);
      let told = "";
      for (const update of updates) {
        if (update.type === "text") told += update.text;
        else if (update.type === "rewind") told = update.text;
      }
      expect(told).toBe(leaves);
      expect(sent).toEqual(asked);
      expect(updates.at(-1)?.type === "done").toBe(ended);
      if (!ended) return;
      await reading;
      expect(await turn.text()).toBe(leaves);
      expect(left()).toBeGreaterThan(0);
      expect(vi.getTimerCount()).toBe(0);
    },
  );

  test("what stays missing is asked for again, after a second", () => {
    const { turn, sent } = follow();
    for (const frame of [at(1, 3), at(5, 5), at(6, 6)]) turn.apply(frame);
    vi.advanceTimersByTime(999);
    expect(sent).toHaveLength(1);
    vi.advanceTimersByTime(1);
    expect(sent).toEqual([asks(3, 1), asks(3, 1)]);
    turn.apply(at(4, 6));
    vi.advanceTimersByTime(5_000);
    expect(sent).toHaveLength(2);
  });

  test("a silence has the server reminded, at growing intervals until something is heard", () => {
    const { turn, reminded } = follow(1_000);
    const start = Date.now();
    vi.advanceTimersByTime(33_000);
    expect(reminded.map((time) => time - start)).toEqual([
      1_000, 3_000, 7_000, 15_000, 23_000, 31_000,
    ]);
    turn.apply(at(1, 1, 2));
    vi.advanceTimersByTime(900);
    // A process of the past is no sign of life.
    turn.apply(at(1, 1, 1));
    vi.advanceTimersByTime(100);
    expect(reminded).toHaveLength(7);
  });

  test("a turn that has ended or failed, or that nobody reads, keeps no timer", async () => {
    const { turn, updates, reading } = follow();
    for (const frame of [at(1, 3), at(5, 5), at(6, 6)]) turn.apply(frame);
    expect(vi.getTimerCount()).toBe(2);
    const { AxonClientError } = await import("../../client/errors.ts");
    turn.fail(new AxonClientError("closed", "closed"));
    expect(vi.getTimerCount()).toBe(0);
    await expect(turn.text()).rejects.toThrow("closed");
    await expect(reading).rejects.toThrow("closed");
    expect(updates).toHaveLength(1);

    const other = new FollowedTurn({ send() {}, remind() {}, leave() {}, quietMs: 1_000 });
    other.apply(at(1, 1));
    for await (const _ of other) break;
    expect(vi.getTimerCount()).toBe(0);
  });

  test("another device goes on from its progress", async () => {
    const first = follow();
    for (const frame of [at(1, 2), at(3, 3, 2)]) first.turn.apply(frame);
    const { turn, sent } = follow();
    turn.startFrom(first.turn.progress);
    turn.ask();
    expect(sent).toEqual([asks(3, 2)]);
    for (const frame of [at(4, 4, 2), ended(4, 2)]) turn.apply(frame);
    expect(await turn.text()).toBe(counting(1, 4));
  });

  test("what was read elsewhere is taken back where the record has lost it", async () => {
    const { turn, sent, updates } = follow();
    turn.startFrom({ after: 3, epoch: 1, text: "1 2 3 " });
    for (const frame of [back(2), at(1, 2), at(3, 3, 2, "new "), ended(3, 2)]) turn.apply(frame);
    expect(await turn.text()).toBe("1 2 new ");
    expect(sent).toEqual([asks(0, 0)]);
    await vi.advanceTimersByTimeAsync(0);
    expect(updates[0]).toEqual({ type: "rewind", text: "", to: 0 });
  });
});
