import { setTimeout as sleep } from "node:timers/promises";
import {
  type Context,
  createContextKey,
  type Span as OtelSpan,
  ROOT_CONTEXT,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from "@opentelemetry/api";
import { type Sampler, TracerProvider } from "@opentelemetry/sdk-trace";
import { otlpTraces } from "./otlp.ts";
import { type SendResult, SpanQueue } from "./span-queue.ts";
import { collector, traceFile } from "./span-sinks.ts";
import type { TraceContext } from "./trace-context.ts";
import { type Samplers, traceSettings } from "./trace-settings.ts";
import type { Attributes, Span, SpanStart, TracedService, Tracing } from "./tracing.ts";

/**
 * Tracing by OpenTelemetry's SDK. Only `openTracing` imports this, and only where there is somewhere to send
 * spans to: who does not trace loads none of it.
 *
 * The official exporter of OTLP would bring its own HTTP client and the encodings of logs and metrics with
 * it; what is needed of it stands in otlp.ts and span-sinks.ts.
 */
export function startTracing(
  env: Readonly<Record<string, string | undefined>>,
  { service, attributes = {}, note }: TracedService,
): Tracing {
  const settings = traceSettings(env, (problem) => note("a setting of traces", { problem }));
  const resource = {
    ...{ "service.name": settings.serviceName ?? service, "service.namespace": "axon" },
    "telemetry.sdk.name": "opentelemetry",
    "telemetry.sdk.language": "nodejs",
    ...attributes,
    ...settings.resource,
  };
  const { url, headers, timeoutMs, file } = settings;
  const sinks = [
    ...(url === undefined ? [] : [collector(url, headers, timeoutMs)]),
    ...(file === undefined ? [] : [traceFile(file)]),
  ];
  const queue = new SpanQueue({
    note,
    async send(spans) {
      const traces = otlpTraces(spans, resource);
      return worst(await Promise.all(sinks.map((sink) => sink(traces))));
    },
  });
  const provider = new TracerProvider({
    sampler: borderSampler(settings.samplers),
    spanProcessors: [queue],
  });
  const tracer = provider.getTracer("axon");
  return {
    start(name, start) {
      const { kind, attributes: own = {}, links = [], startedAt } = start;
      const options = {
        kind: kinds[kind],
        attributes: defined(own),
        links: links.map((link) => ({ context: spanContextOf(link) })),
        ...(startedAt !== undefined && { startTime: startedAt }),
      };
      return spanOf(tracer.startSpan(name, options, contextOf(start)));
    },
    async flush(withinMs) {
      await Promise.race([queue.forceFlush(), sleep(withinMs, undefined, { ref: false })]);
    },
  };
}

/** With two sinks, a batch that one of them lacks is sent to both again. */
function worst(results: readonly SendResult[]): SendResult {
  if (results.includes("away")) return "away";
  return results.includes("refused") ? "refused" : "sent";
}

const kinds = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
  producer: SpanKind.PRODUCER,
  consumer: SpanKind.CONSUMER,
} as const;

const border = createContextKey("axon.border");

/**
 * Two samplers in one. A client may name the trace that its request belongs to; that it wants it recorded
 * is no order, or anybody could make us record everything.
 */
function borderSampler({ own, border: strict }: Samplers): Sampler {
  return {
    shouldSample(context, ...rest) {
      const sampler = context.getValue(border) === true ? strict : own;
      return sampler.shouldSample(context, ...rest);
    },
    toString: () => own.toString(),
  };
}

function contextOf({ parent, isBorder = false }: SpanStart): Context {
  const context = isBorder ? ROOT_CONTEXT.setValue(border, true) : ROOT_CONTEXT;
  return parent === undefined ? context : trace.setSpanContext(context, spanContextOf(parent));
}

function spanContextOf({ traceId, spanId, isSampled }: TraceContext): SpanContext {
  const traceFlags = isSampled ? TraceFlags.SAMPLED : TraceFlags.NONE;
  return { traceId, spanId, traceFlags, isRemote: true };
}

function spanOf(span: OtelSpan): Span {
  const { traceId, spanId, traceFlags } = span.spanContext();
  return {
    context: { traceId, spanId, isSampled: (traceFlags & TraceFlags.SAMPLED) !== 0 },
    set: (attributes) => void span.setAttributes(defined(attributes)),
    event: (name, attributes = {}, at) => void span.addEvent(name, defined(attributes), at),
    fail: (type) =>
      void span.setAttribute("error.type", type).setStatus({ code: SpanStatusCode.ERROR }),
    end: (at) => span.end(at),
  };
}

function defined(attributes: Attributes) {
  const entries = Object.entries(attributes).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Record<string, string | number | boolean | string[]>;
}
