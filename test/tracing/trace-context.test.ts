import { expect, test } from "vitest";
import { parseTraceparent, traceparentOf } from "../../events/tracing/trace-context.ts";

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736";
const spanId = "00f067aa0ba902b7";

test("a traceparent is read as it was written", () => {
  for (const isSampled of [true, false]) {
    const context = { traceId, spanId, isSampled };
    expect(parseTraceparent(traceparentOf(context))).toEqual(context);
  }
  expect(traceparentOf({ traceId, spanId, isSampled: true })).toBe(`00-${traceId}-${spanId}-01`);
});

test("flags beside that of sampling are passed over, and so is what later versions add", () => {
  const context = { traceId, spanId, isSampled: true };
  expect(parseTraceparent(`00-${traceId}-${spanId}-03`)).toEqual(context);
  expect(parseTraceparent(`01-${traceId}-${spanId}-01-more`)).toEqual(context);
});

test.each([
  undefined,
  "",
  "nonsense",
  `00-${traceId}-${spanId}`,
  `00-${traceId}-${spanId}-01-more`,
  `00-${traceId.toUpperCase()}-${spanId}-01`,
  `00-${"0".repeat(32)}-${spanId}-01`,
  `00-${traceId}-${"0".repeat(16)}-01`,
  `ff-${traceId}-${spanId}-01`,
  `00-${traceId}-${spanId}-0g`,
])("what cannot be read is none: %s", (text) => {
  expect(parseTraceparent(text)).toBeUndefined();
});
