import type { HrTime } from "@opentelemetry/api";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import type { Attributes } from "./tracing.ts";

/**
 * Spans as OTLP's JSON: a TracesData, which is also the body of a request to a collector. Ids are
 * hexadecimal, 64-bit numbers are strings, enumerations are numbers, and names are in lowerCamelCase.
 * Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding and
 * https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto
 */
export function otlpTraces(spans: readonly ReadableSpan[], resource: Attributes): string {
  return JSON.stringify({
    resourceSpans: [
      {
        resource: { attributes: keyValues(resource) },
        scopeSpans: [{ scope: { name: "axon" }, spans: spans.map(otlpSpan) }],
      },
    ],
  });
}

/** SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK and SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK. */
const isRemoteKnown = 0x100;
const isRemote = 0x200;

function otlpSpan(span: ReadableSpan) {
  const { traceId, spanId, traceFlags } = span.spanContext();
  const { parentSpanContext: parent, status } = span;
  return {
    ...{ traceId, spanId },
    ...(parent && { parentSpanId: parent.spanId }),
    flags: traceFlags | isRemoteKnown | (parent?.isRemote ? isRemote : 0),
    name: span.name,
    // The API counts from 0 what OTLP counts from 1: there 0 is "unspecified".
    kind: span.kind + 1,
    startTimeUnixNano: nanoseconds(span.startTime),
    endTimeUnixNano: nanoseconds(span.endTime),
    attributes: keyValues(span.attributes),
    events: span.events.map(({ name, time, attributes = {} }) => ({
      ...{ name, timeUnixNano: nanoseconds(time), attributes: keyValues(attributes) },
    })),
    links: span.links.map(({ context, attributes = {} }) => ({
      ...{ traceId: context.traceId, spanId: context.spanId },
      ...{
        attributes: keyValues(attributes),
        flags: context.traceFlags | isRemoteKnown | isRemote,
      },
    })),
    // 0 unset, 1 ok, 2 error, in both.
    status: { code: status.code, ...(status.message && { message: status.message }) },
    droppedAttributesCount: span.droppedAttributesCount,
    droppedEventsCount: span.droppedEventsCount,
    droppedLinksCount: span.droppedLinksCount,
  };
}

function nanoseconds([seconds, nanos]: HrTime): string {
  return String(BigInt(seconds) * 1_000_000_000n + BigInt(nanos));
}

function keyValues(attributes: Readonly<Record<string, unknown>>) {
  return Object.entries(attributes).flatMap(([key, value]) =>
    value === undefined ? [] : [{ key, value: anyValue(value) }],
  );
}

function anyValue(value: unknown): Record<string, unknown> {
  if (Array.isArray(value)) return { arrayValue: { values: value.map(anyValue) } };
  if (typeof value === "boolean") return { boolValue: value };
  if (typeof value === "number") {
    return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value };
  }
  return { stringValue: String(value) };
}
