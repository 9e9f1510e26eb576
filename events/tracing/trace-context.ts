/**
 * Where a span stands in its trace, and how that travels in messages.
 * Source: W3C Trace Context, Level 1, https://www.w3.org/TR/trace-context/
 */
export interface TraceContext {
  /** 32 hexadecimal digits in lower case, not all zero. */
  traceId: string;
  /** 16 of them, not all zero. */
  spanId: string;
  /** Whoever has started the trace records its spans. */
  isSampled: boolean;
}

const pattern = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/**
 * @returns what a `traceparent` says; undefined for one that cannot be read, which is to be passed over as if
 * there were none (section 3.2.2 there). Later versions may say more; what they begin with stays as it is.
 */
export function parseTraceparent(text: string | undefined): TraceContext | undefined {
  const [, version = "ff", traceId = "", spanId = "", flags = "", more] =
    pattern.exec(text ?? "") ?? [];
  if (version === "ff" || (version === "00" && more !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined;
  return { traceId, spanId, isSampled: (Number.parseInt(flags, 16) & 1) === 1 };
}

/** The `traceparent` that says it. */
export function traceparentOf({ traceId, spanId, isSampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-${isSampled ? "01" : "00"}`;
}
