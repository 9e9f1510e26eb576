import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Change } from "../../../events/observations.ts";
import { OpsError, type OpsSocket } from "../../../web/ops/ops-socket.ts";
import { afterNews, isStale, type Seen, type WatchNews, watch } from "../../../web/ops/watch.ts";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const change = (stream: string): Change => ({
  ...{ stream, version: 1, position: "0".repeat(26), at: 1, types: [] },
});

/** A watch of one view, and everything that it depends on. */
function scene(everyMs = 2_000, concerns?: (change: Change) => boolean) {
  const asked: { resolve: (n: number) => void; reject: (error: OpsError) => void }[] = [];
  const news: WatchNews[] = [];
  let isVisible = true;
  const listeners = { noticed: (_: Change[]) => {}, state: () => {}, attention: () => {} };
  const socket = {
    state: "open",
    observe: () =>
      new Promise((resolve, reject) => {
        asked.push({ resolve: (n) => resolve({ at: n, data: n }), reject });
      }),
    onNoticed(listener: (changes: Change[]) => void) {
      listeners.noticed = listener;
      return () => {};
    },
    onState(listener: () => void) {
      listeners.state = listener;
      return () => {};
    },
  } as unknown as OpsSocket;
  const attention = {
    isVisible: () => isVisible,
    onChange(listener: () => void) {
      listeners.attention = listener;
      return () => {};
    },
  };
  const started = watch(
    socket,
    { view: "groups", params: {}, everyMs, concerns },
    attention,
    (one) => news.push(one),
  );
  const settle = () => vi.advanceTimersByTimeAsync(0);
  return {
    ...{ asked, news, listeners, ...started },
    look(visible: boolean) {
      isVisible = visible;
      listeners.attention();
    },
    async answer(n: number) {
      asked.at(-1)?.resolve(n);
      await settle();
    },
    async refuse(code: string, retryable: boolean) {
      asked.at(-1)?.reject(new OpsError(code, code, retryable));
      await settle();
    },
    wait: (ms: number) => vi.advanceTimersByTimeAsync(ms),
  };
}

describe("a watch", () => {
  test("asks at once, then again so long after each answer", async () => {
    const { asked, news, answer, wait } = scene();
    expect(asked).toHaveLength(1);
    await wait(10_000);
    expect(asked).toHaveLength(1);
    await answer(7);
    expect(news).toEqual([{ type: "answered", answer: { at: 7, data: 7 } }]);
    await wait(1_999);
    expect(asked).toHaveLength(1);
    await wait(1);
    expect(asked).toHaveLength(2);
  });

  test("asks nothing while nobody looks, and at once when somebody does", async () => {
    const { asked, answer, look, wait } = scene();
    await answer(1);
    look(false);
    await wait(60_000);
    expect(asked).toHaveLength(1);
    look(true);
    expect(asked).toHaveLength(2);
  });

  test("asks when the log grows by what concerns it, once more for all that came meanwhile", async () => {
    const { asked, answer, listeners } = scene(60_000, ({ stream }) => stream === "turn/a");
    await answer(1);
    listeners.noticed([change("turn/b")]);
    expect(asked).toHaveLength(1);
    listeners.noticed([change("turn/b"), change("turn/a")]);
    expect(asked).toHaveLength(2);
    listeners.noticed([change("turn/a")]);
    listeners.noticed([change("turn/a")]);
    expect(asked).toHaveLength(2);
    await answer(2);
    expect(asked).toHaveLength(3);
  });

  test("asks when the connection is back", async () => {
    const { asked, answer, listeners } = scene(60_000);
    await answer(1);
    listeners.state();
    expect(asked).toHaveLength(2);
  });

  test("tries again after what waiting may mend, and not after a refusal", async () => {
    const mendable = scene();
    await mendable.refuse("unavailable", true);
    await mendable.wait(2_000);
    expect(mendable.asked).toHaveLength(2);
    const refused = scene();
    await refused.refuse("forbidden", false);
    await refused.wait(60_000);
    expect(refused.asked).toHaveLength(1);
    refused.ask();
    expect(refused.asked).toHaveLength(2);
  });

  test("says nothing any more once it is over", async () => {
    const { news, asked, answer, stop, wait } = scene();
    stop();
    await answer(1);
    await wait(10_000);
    expect(news).toEqual([]);
    expect(asked).toHaveLength(1);
  });
});

describe("what a view knows", () => {
  const loading: Seen<number> = { status: "loading" };
  const answered: WatchNews = { type: "answered", answer: { at: 5, data: 1 } };
  const failed = (code: string): WatchNews => ({
    type: "failed",
    error: new OpsError(code, code, true),
  });

  test("stays what it was while nothing newer can be had, and is called stale", () => {
    const shown = afterNews(loading, answered, 100);
    expect(isStale(shown, "open", 2_000, 100)).toBe(false);
    const old = afterNews(shown, failed("unavailable"), 200);
    expect(old).toMatchObject({ status: "shown", data: 1, heardAt: 100 });
    expect(isStale(old, "open", 2_000, 200)).toBe(true);
    expect(isStale(afterNews(old, answered, 300), "open", 2_000, 300)).toBe(false);
  });

  test("is stale without a connection, and after a long silence", () => {
    const shown = afterNews(loading, answered, 100);
    expect(isStale(shown, "reconnecting", 2_000, 100)).toBe(true);
    expect(isStale(shown, "open", 2_000, 10_000)).toBe(false);
    expect(isStale(shown, "open", 2_000, 10_101)).toBe(true);
    expect(isStale(loading, "reconnecting", 2_000, 99_999)).toBe(false);
  });

  test("is not shown to whoever has lost the right to see it", () => {
    const shown = afterNews(loading, answered, 100);
    expect(afterNews(shown, failed("forbidden"), 200)).toMatchObject({ status: "refused" });
  });
});
