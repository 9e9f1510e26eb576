import type { TraceContext } from "./trace-context.ts";

/**
 * Traces, as the rest of the project sees them. A process that does not trace has no `Tracing` at all, and
 * nothing that traces need is loaded.
 */

/** What a span says beside its name; what is undefined is left out. */
export type Attributes = Readonly<
  Record<string, string | number | boolean | readonly string[] | undefined>
>;

/** Something that takes time, in one process. Names and attributes never hold anybody's text. */
export interface Span {
  readonly context: TraceContext;
  set(attributes: Attributes): void;
  /** Something that happens in it; `at` in Unix ms, now by default. */
  event(name: string, attributes?: Attributes, at?: number): void;
  /** It has failed; `type` is a code or the class of an error, never its message, which may quote text. */
  fail(type: string): void;
  /** `at` in Unix ms, now by default. */
  end(at?: number): void;
}

/** How a span begins. */
export interface SpanStart {
  kind: "internal" | "server" | "client" | "producer" | "consumer";
  /** Without one the span begins a trace. */
  parent?: TraceContext | undefined;
  /** The parent is a stranger's: that it is sampled is a wish, and whether we record is our own choice. */
  isBorder?: boolean;
  links?: readonly TraceContext[];
  /** Unix ms; now by default. */
  startedAt?: number;
  attributes?: Attributes;
}

/** Makes spans and sends them. */
export interface Tracing {
  start(name: string, start: SpanStart): Span;
  /** Sends what has ended. Resolves when that is done, and after `withinMs` in any case; never rejects. */
  flush(withinMs: number): Promise<void>;
}

/** Who traces. */
export interface TracedService {
  /** Its name, such as axon-worker; OTEL_SERVICE_NAME goes before it. */
  service: string;
  /** Of its resource: what is the same for all of its spans. */
  attributes?: Attributes;
  /** Hears, once each time that it begins and ends, that spans are lost. */
  note: (message: string, details: Record<string, unknown>) => void;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * @returns undefined unless the environment says where spans go: OTEL_EXPORTER_OTLP_ENDPOINT (or
 * OTEL_EXPORTER_OTLP_TRACES_ENDPOINT), or the file AXON_TRACE_FILE.
 */
export async function openTracing(
  env: Environment,
  service: TracedService,
): Promise<Tracing | undefined> {
  const { OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, AXON_TRACE_FILE } = env;
  const target = OTEL_EXPORTER_OTLP_TRACES_ENDPOINT || OTEL_EXPORTER_OTLP_ENDPOINT;
  if (!(target || AXON_TRACE_FILE) || env["OTEL_SDK_DISABLED"] === "true") return undefined;
  const { startTracing } = await import("./start-tracing.ts");
  return startTracing(env, service);
}
