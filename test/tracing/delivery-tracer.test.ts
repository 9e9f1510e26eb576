import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { DeliveryTracer } from "../../dataplane/relay/delivery-tracer.ts";
import type { TraceContext } from "../../events/tracing/trace-context.ts";
import { openTracing, type Tracing } from "../../events/tracing/tracing.ts";
import { noteTurnTrace } from "../../events/tracing/turn-trace.ts";
import { freshRedis } from "../support/parts.ts";
import { traceCollector } from "../support/trace-collector.ts";

let redis: Redis;
let collector: Awaited<ReturnType<typeof traceCollector>>;
let tracing: Tracing;
beforeAll(async () => {
  redis = new Redis(await freshRedis());
  collector = await traceCollector();
  const opened = await openTracing(
    { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url },
    { service: "axon-relay", note: () => {} },
  );
  if (opened === undefined) throw new Error("It does not trace.");
  tracing = opened;
});
afterAll(async () => {
  redis.disconnect();
  await collector.stop();
});

const span = (digit: string): TraceContext => ({
  ...{ traceId: "a".repeat(32), spanId: digit.repeat(16), isSampled: true },
});
const tokens = (turnId: string, from: number, to: number) =>
  ({ type: "tokens", turnId, from, to, text: "secret words", epoch: 1 }) as const;

async function spansOf(tracer: DeliveryTracer, turnId: string) {
  await tracer.settled();
  await tracing.flush(2_000);
  return collector.spans().filter(({ attributes }) => attributes["axon.turn.id"] === turnId);
}

test("a delivery counts its frames, tokens and silences, and tells none of their text", async () => {
  await noteTurnTrace(redis, "turn_1", { asked: span("1"), leader: span("2") });
  const tracer = new DeliveryTracer(tracing, redis);
  const now = vi.spyOn(Date, "now").mockReturnValue(1_700_000_000_000);
  const trace = tracer.begin("turn_1", "connection");
  const at = (ms: number) => now.mockReturnValue(1_700_000_000_000 + ms);
  at(100);
  trace.delivered(tokens("turn_1", 1, 1));
  at(140);
  trace.delivered(tokens("turn_1", 2, 5));
  at(2_540);
  trace.delivered({ type: "rewind", turnId: "turn_1", to: 4 });
  trace.delivered(tokens("turn_1", 5, 5));
  now.mockRestore();
  trace.end("done");
  trace.end("left");

  const spans = await spansOf(tracer, "turn_1");
  expect(spans).toHaveLength(1);
  expect(spans[0]).toMatchObject({
    ...{ name: "deliver", parentSpanId: span("1").spanId, links: [{ spanId: span("2").spanId }] },
    attributes: {
      ...{ "axon.outcome": "done", "axon.frames": 4, "axon.tokens": 6, "axon.rewinds": 1 },
      "axon.longest_gap_ms": 2_400,
    },
    events: [{ name: "first frame" }, { name: "gap" }, { name: "last frame" }],
    status: { code: 0 },
  });
  expect(collector.text()).not.toContain("secret");
});

test("a connection that has gone is a failed delivery", async () => {
  await noteTurnTrace(redis, "turn_2", { asked: span("1") });
  const tracer = new DeliveryTracer(tracing, redis);
  tracer.begin("turn_2", "connection").end("gone");
  expect(await spansOf(tracer, "turn_2")).toMatchObject([
    { attributes: { "error.type": "connection_gone" }, status: { code: 2 } },
  ]);
});

test("of a turn that is not traced there is no span", async () => {
  const tracer = new DeliveryTracer(tracing, redis);
  tracer.begin("turn_3", "connection").end("done");
  expect(await spansOf(tracer, "turn_3")).toEqual([]);
});
