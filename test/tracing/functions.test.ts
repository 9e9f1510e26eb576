import { randomUUID } from "node:crypto";
import { ReceiveMessageCommand } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { turnIdFor } from "../../events/ids.ts";
import { turnTraceKey } from "../../events/redis-keys.ts";
import { openTracing, type Tracing } from "../../events/tracing/tracing.ts";
import { chat } from "../../functions/chat.ts";
import { dispatch } from "../../functions/dispatch.ts";
import { report } from "../../functions/report.ts";
import {
  context,
  endReport,
  guide,
  reportsEvent,
  type Stage,
  socketEvent,
  startStage,
  tableEvent,
} from "../functions/stage.ts";
import { kinds, traceCollector } from "../support/trace-collector.ts";

/** What handlers do for the trace of a turn, on real stores. */

let stage: Stage;
let collector: Awaited<ReturnType<typeof traceCollector>>;
let status = 200;
beforeAll(async () => {
  stage = await startStage();
  collector = await traceCollector(() => status);
});
afterAll(async () => {
  await stage.close();
  await collector.stop();
});
beforeEach(() => stage.takeJobs());

async function tracing(env: Record<string, string> = {}): Promise<Tracing> {
  const opened = await openTracing(
    { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, ...env },
    { service: "axon-functions", note: () => {} },
  );
  if (opened === undefined) throw new Error("It does not trace.");
  return opened;
}

async function ask(deps: Stage["deps"], more: Record<string, unknown> = {}) {
  const requestId = randomUUID();
  const connectionId = await stage.open("acme");
  const frame = { action: "chat", requestId, prompt: "What is a lighthouse?", ...more };
  await chat(deps)(socketEvent(connectionId, frame), context);
  return { turnId: turnIdFor("acme", requestId), frames: stage.framesTo(connectionId) };
}

/** The `traceparent` of the one job that is on the queue. */
async function sentContext(): Promise<string | undefined> {
  const { queueUrl = "" } = stage.deps.models.withRevision(guide.revision) ?? {};
  const { Messages = [] } = await stage.deps.sqs.send(
    new ReceiveMessageCommand({ QueueUrl: queueUrl, MessageAttributeNames: ["All"] }),
  );
  expect(Messages).toHaveLength(1);
  return Messages[0]?.MessageAttributes?.["traceparent"]?.StringValue;
}

const spansOf = (turnId: string) =>
  collector.spans().filter(({ attributes }) => attributes["axon.turn.id"] === turnId);

const traceId = "c".repeat(32);
const traceparent = `00-${traceId}-${"d".repeat(16)}-01`;

test("a turn's trace goes with its job, and stands in Redis for whoever has none", async () => {
  const deps = { ...stage.deps, tracing: await tracing() };
  const { turnId } = await ask(deps, { traceparent });
  const [send, asked] = spansOf(turnId);
  expect(asked).toMatchObject({ kind: kinds.server, traceId, parentSpanId: "d".repeat(16) });
  expect(send).toMatchObject({ kind: kinds.producer, parentSpanId: asked?.spanId, traceId });
  const sent = `00-${traceId}-${send?.spanId}-01`;
  expect(await sentContext()).toBe(sent);
  expect(await stage.deps.redis.hgetall(turnTraceKey(turnId))).toEqual({
    asked: `00-${traceId}-${asked?.spanId}-01`,
    job: sent,
  });
  expect(await stage.deps.redis.ttl(turnTraceKey(turnId))).toBeGreaterThan(3_600);
});

test("a turn that is not sampled leaves nothing behind but that it is not", async () => {
  const never = { OTEL_TRACES_SAMPLER: "parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG: "0" };
  const { turnId } = await ask({ ...stage.deps, tracing: await tracing(never) }, { traceparent });
  expect(await sentContext()).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-00$`));
  expect(await stage.deps.redis.exists(turnTraceKey(turnId))).toBe(0);
  expect(spansOf(turnId)).toEqual([]);
});

test("a traceparent that cannot be read is passed over", async () => {
  const deps = { ...stage.deps, tracing: await tracing() };
  const { turnId, frames } = await ask(deps, { traceparent: "nonsense" });
  expect(frames).toMatchObject([{ type: "accepted", turnId }]);
  expect(spansOf(turnId).every(({ traceId: own }) => own !== traceId)).toBe(true);
});

test("without tracing a job says nothing of it", async () => {
  const { turnId } = await ask(stage.deps, { traceparent });
  expect(await sentContext()).toBeUndefined();
  expect(await stage.deps.redis.exists(turnTraceKey(turnId))).toBe(0);
});

test("the outbox goes on with the trace that the request began", async () => {
  const deps = { ...stage.deps, tracing: await tracing() };
  const sqs = {
    send: () => Promise.reject(new Error("SQS is away")),
  } as unknown as typeof deps.sqs;
  const { turnId } = await ask({ ...deps, sqs }, { traceparent });
  const requested = (await stage.commits()).filter(({ stream }) => stream.endsWith(turnId));
  await dispatch(deps)(tableEvent(requested), context);
  const asked = spansOf(turnId).find(({ kind }) => kind === kinds.server);
  const sends = spansOf(turnId).filter(({ kind }) => kind === kinds.producer);
  expect(sends.map(({ parentSpanId }) => parentSpanId)).toEqual([asked?.spanId, asked?.spanId]);
  expect(sends.map((span) => span.status.code)).toEqual([2, 0]);
  expect(await sentContext()).toBe(`00-${traceId}-${sends[1]?.spanId}-01`);
});

test("a report belongs to the trace that its message names; one that fails says so", async () => {
  const deps = { ...stage.deps, tracing: await tracing() };
  const { turnId } = await ask(deps, { traceparent });
  const event = reportsEvent(endReport(turnId, "It shines."), endReport(turnId, "x"));
  const attribute = {
    ...{ dataType: "String", stringListValues: [], binaryListValues: [] },
    stringValue: traceparent,
  };
  for (const record of event.Records) record.messageAttributes = { traceparent: attribute };
  await report(deps)(event, context);
  const broken = reportsEvent(endReport(turnId, "x"));
  for (const record of broken.Records) {
    Object.assign(record, { body: "{}", messageAttributes: { traceparent: attribute } });
  }
  await report(deps)(broken, context);
  const reports = collector.spans().filter(({ name }) => name === "process reports.fifo");
  expect(reports.map(({ parentSpanId }) => parentSpanId)).toEqual(
    Array.from({ length: 3 }, () => "d".repeat(16)),
  );
  expect(reports.map((span) => span.status.code)).toEqual([0, 0, 2]);
  expect(collector.text()).not.toContain("shines");
});

test("a collector that is away costs an answer nothing", async () => {
  status = 503;
  const deps = { ...stage.deps, tracing: await tracing() };
  const { turnId, frames } = await ask(deps);
  expect(frames).toMatchObject([{ type: "accepted", turnId }]);
  expect(spansOf(turnId)).toEqual([]);
  status = 200;
});
