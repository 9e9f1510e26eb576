import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type SendResult, SpanQueue } from "../../events/tracing/span-queue.ts";

/** On virtual time: what happens to spans while their collector is away, slow, or unwilling. */

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const span = (name: string) => ({ name }) as ReadableSpan;

function queueTo(send: () => SendResult | Promise<SendResult>, mostSpans = 10) {
  const sent: string[][] = [];
  const notes: [string, Record<string, unknown>][] = [];
  const queue = new SpanQueue({
    async send(spans) {
      sent.push(spans.map(({ name }) => name));
      return send();
    },
    note: (...note) => notes.push(note),
    ...{ mostSpans, batchSpans: 4, delayMs: 1_000, pauseMs: 1_000 },
  });
  return { queue, sent, notes };
}

test("spans wait for others, and go out together; a full batch waits for nobody", async () => {
  const { queue, sent } = queueTo(() => "sent");
  queue.onEnd(span("a"));
  queue.onEnd(span("b"));
  await vi.advanceTimersByTimeAsync(900);
  expect(sent).toEqual([]);
  await vi.advanceTimersByTimeAsync(200);
  expect(sent).toEqual([["a", "b"]]);
  for (const name of ["c", "d", "e", "f"]) queue.onEnd(span(name));
  await vi.advanceTimersByTimeAsync(0);
  expect(sent[1]).toEqual(["c", "d", "e", "f"]);
});

test("while the collector is away spans wait, up to a bound; it is told once, and again in the end", async () => {
  let result: SendResult = "away";
  const { queue, sent, notes } = queueTo(() => result);
  for (let i = 0; i < 15; i++) queue.onEnd(span(String(i)));
  await vi.advanceTimersByTimeAsync(60_000);
  expect(notes).toEqual([["the collector of traces is away", { waiting: 10 }]]);
  // 1, 2, 4, 8, 16 s, then every 30 s.
  expect(sent.length).toBeGreaterThanOrEqual(5);
  expect(sent.length).toBeLessThanOrEqual(8);
  // Whoever flushes meanwhile is not held up by another try.
  const tries = sent.length;
  await queue.forceFlush();
  expect(sent.length).toBe(tries);

  result = "sent";
  await vi.advanceTimersByTimeAsync(60_000);
  expect(sent.slice(-3).flat()).toEqual(Array.from({ length: 10 }, (_, i) => String(i)));
  expect(notes.slice(1)).toEqual([
    ["the collector of traces takes them again", { droppedSpans: 5 }],
  ]);
});

test("what the collector refuses is dropped, and the rest goes on", async () => {
  const results: SendResult[] = ["refused", "sent"];
  const { queue, sent, notes } = queueTo(() => results.shift() ?? "sent");
  for (let i = 0; i < 6; i++) queue.onEnd(span(String(i)));
  await queue.forceFlush();
  await vi.advanceTimersByTimeAsync(2_000);
  expect(sent.flat()).toEqual(["0", "1", "2", "3", "4", "5"]);
  expect(notes).toEqual([
    ["the collector refuses traces", { waiting: expect.any(Number) }],
    ["the collector of traces takes them again", { droppedSpans: 4 }],
  ]);
});

test("one batch is under way at a time, and a flush waits for it", async () => {
  const release = Promise.withResolvers<SendResult>();
  const { queue, sent } = queueTo(() => release.promise);
  queue.onEnd(span("a"));
  const first = queue.forceFlush();
  await vi.advanceTimersByTimeAsync(0);
  queue.onEnd(span("b"));
  const second = queue.forceFlush();
  await vi.advanceTimersByTimeAsync(5_000);
  expect(sent).toEqual([["a"]]);
  release.resolve("sent");
  await Promise.all([first, second]);
  expect(sent).toEqual([["a"], ["b"]]);
});
