import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import type { TraceContext } from "../../events/tracing/trace-context.ts";
import { openTracing, type SpanStart, type Tracing } from "../../events/tracing/tracing.ts";
import { eventually } from "../support/eventually.ts";
import { kinds, spansIn, traceCollector } from "../support/trace-collector.ts";

const open: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.stop();
});

async function collect(answer?: () => number | Promise<number>) {
  const collector = await traceCollector(answer);
  open.push(collector);
  return collector;
}

type Note = [message: string, details: Record<string, unknown>];

async function tracingTo(url: string, env: Record<string, string> = {}, notes: Note[] = []) {
  const tracing = await openTracing(
    { OTEL_EXPORTER_OTLP_ENDPOINT: url, ...env },
    {
      ...{ service: "axon-test", attributes: { "service.instance.id": "one" } },
      note: (...note) => notes.push(note),
    },
  );
  if (tracing === undefined) throw new Error("It does not trace.");
  return tracing;
}

const traceId = (digit: string) => digit.repeat(32);
const parent = (digit: string, isSampled = true): TraceContext => ({
  ...{ traceId: traceId(digit), spanId: digit.repeat(16), isSampled },
});

/** Whether a span is recorded. */
const isRecorded = (tracing: Tracing, start: Partial<SpanStart> = {}) =>
  tracing.start("test", { kind: "internal", ...start }).context.isSampled;

test("nothing is traced unless there is somewhere to send it to", async () => {
  const service = { service: "axon-test", note: () => {} };
  expect(await openTracing({}, service)).toBeUndefined();
  expect(await openTracing({ OTEL_EXPORTER_OTLP_ENDPOINT: "" }, service)).toBeUndefined();
  const disabled = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1", OTEL_SDK_DISABLED: "true" };
  expect(await openTracing(disabled, service)).toBeUndefined();
});

test("a span arrives as it was made", async () => {
  const collector = await collect();
  const tracing = await tracingTo(`${collector.url}/`, {
    OTEL_EXPORTER_OTLP_HEADERS: "x-key=a%20b,other=c",
    OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=prod",
    OTEL_SERVICE_NAME: "mine",
  });
  const attributes = {
    text: "a",
    int: 3,
    double: 0.5,
    flag: true,
    list: ["x", "y"],
    none: undefined,
  };
  const span = tracing.start("work", {
    ...{ kind: "consumer", parent: parent("a"), links: [parent("b")], attributes },
    startedAt: 1_700_000_000_123,
  });
  span.event("half", { at: 1 }, 1_700_000_000_200);
  span.set({ late: "yes" });
  span.fail("timeout");
  span.end(1_700_000_000_500);
  await tracing.flush(2_000);

  const [received] = collector.spans();
  expect(received).toMatchObject({
    ...{ traceId: traceId("a"), parentSpanId: "a".repeat(16), spanId: span.context.spanId },
    ...{ name: "work", kind: kinds.consumer, service: "mine" },
    startTimeUnixNano: "1700000000123000000",
    endTimeUnixNano: "1700000000500000000",
    events: [{ name: "half", attributes: { at: 1 }, timeUnixNano: "1700000000200000000" }],
    links: [{ traceId: traceId("b"), spanId: "b".repeat(16) }],
    status: { code: 2 },
  });
  const { none: _, ...given } = attributes;
  expect(received?.attributes).toEqual({ ...given, late: "yes", "error.type": "timeout" });
  expect(JSON.parse(collector.text()).resourceSpans[0].resource.attributes).toEqual(
    expect.arrayContaining([
      { key: "service.instance.id", value: { stringValue: "one" } },
      { key: "deployment.environment.name", value: { stringValue: "prod" } },
    ]),
  );
  expect(collector.requests).toMatchObject([
    { url: "/v1/traces", headers: { "x-key": "a b", other: "c" } },
  ]);
});

test("spans that end are sent by themselves, and a file takes them, too", async () => {
  const collector = await collect();
  const folder = await mkdtemp(join(tmpdir(), "axon-traces-"));
  open.push({ stop: () => rm(folder, { recursive: true }) });
  const file = join(folder, "spans.jsonl");
  const tracing = await tracingTo(collector.url, { AXON_TRACE_FILE: file });
  tracing.start("work", { kind: "internal" }).end();
  await eventually(() => collector.spans().length === 1);
  const text = await eventually(() => readFile(file, "utf8"));
  expect(text.trim().split("\n").flatMap(spansIn)).toMatchObject([{ name: "work" }]);
});

test("the sampler is the one that the environment names", async () => {
  const { url } = await collect();
  const named = (name: string, argument = "") =>
    tracingTo(url, { OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: argument });
  const onward = { parent: parent("a") };
  const notOnward = { parent: parent("a", false) };

  const usual = await named("");
  expect([isRecorded(usual), isRecorded(usual, onward), isRecorded(usual, notOnward)]).toEqual([
    ...[true, true, false],
  ]);
  const off = await named("parentbased_always_off");
  expect([isRecorded(off), isRecorded(off, onward)]).toEqual([false, true]);
  expect(isRecorded(await named("always_off"), onward)).toBe(false);
  expect(isRecorded(await named("always_on"), notOnward)).toBe(true);

  const tenth = await named("parentbased_traceidratio", "0.1");
  const roots = Array.from({ length: 2_000 }, () => isRecorded(tenth));
  const share = roots.filter(Boolean).length / roots.length;
  expect(share).toBeGreaterThan(0.06);
  expect(share).toBeLessThan(0.14);
  expect(isRecorded(tenth, onward)).toBe(true);
});

test("a stranger may ask not to be recorded; whether it is recorded is decided by us", async () => {
  const { url } = await collect();
  const none = { OTEL_TRACES_SAMPLER: "parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG: "0" };
  const never = await tracingTo(url, none);
  expect(isRecorded(never, { parent: parent("a"), isBorder: true })).toBe(false);
  const always = await tracingTo(url);
  expect(isRecorded(always, { parent: parent("a"), isBorder: true })).toBe(true);
  expect(isRecorded(always, { parent: parent("a", false), isBorder: true })).toBe(false);
  // The trace stays the one that was named.
  const span = always.start("work", { kind: "server", parent: parent("c"), isBorder: true });
  expect(span.context.traceId).toBe(traceId("c"));
});

test("a mistake in a setting is told, and nothing ends by it", async () => {
  const { url } = await collect();
  const notes: Note[] = [];
  const wrong = { OTEL_TRACES_SAMPLER: "sometimes", OTEL_EXPORTER_OTLP_TIMEOUT: "soon" };
  const tracing = await tracingTo(url, wrong, notes);
  expect(isRecorded(tracing)).toBe(true);
  expect(notes.map(([, { problem }]) => problem)).toEqual([
    expect.stringContaining("OTEL_EXPORTER_OTLP_TIMEOUT"),
    expect.stringContaining("OTEL_TRACES_SAMPLER"),
  ]);
});

test("a collector that answers late holds nobody up for longer than was said", async () => {
  const release = Promise.withResolvers<number>();
  const collector = await collect(() => release.promise);
  const tracing = await tracingTo(collector.url);
  tracing.start("work", { kind: "internal" }).end();
  const startedAt = performance.now();
  await tracing.flush(100);
  expect(performance.now() - startedAt).toBeLessThan(1_000);
  release.resolve(200);
  await eventually(() => collector.spans().length === 1);
});
