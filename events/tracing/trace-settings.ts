import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
} from "@opentelemetry/sdk-trace";
import type { Attributes } from "./tracing.ts";

/**
 * OpenTelemetry's own environment variables, with its own meanings and defaults. What cannot be read is noted
 * and passed over, as it asks for: a mistake in them must not keep an answer from anybody.
 * Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
 * https://opentelemetry.io/docs/specs/otel/protocol/exporter/
 */
export interface TraceSettings {
  /** Where spans are sent; undefined with only a file. */
  url: string | undefined;
  headers: Record<string, string>;
  /** For one request. */
  timeoutMs: number;
  file: string | undefined;
  samplers: Samplers;
  serviceName: string | undefined;
  resource: Attributes;
}

/** Who decides whether a trace is recorded. */
export interface Samplers {
  /** Of spans within our own processes. */
  own: Sampler;
  /** Of spans whose parent is a stranger's. */
  border: Sampler;
}

type Environment = Readonly<Record<string, string | undefined>>;
type Note = (problem: string) => void;

/** Reads the settings of traces from the environment. `note` hears what cannot be read; the default takes its place. */
export function traceSettings(env: Environment, note: Note): TraceSettings {
  const timeout = Number(
    env["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"] || env["OTEL_EXPORTER_OTLP_TIMEOUT"] || 10_000,
  );
  const protocol =
    env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] || env["OTEL_EXPORTER_OTLP_PROTOCOL"] || "http/json";
  // Collectors take both encodings at the same address.
  if (protocol === "grpc") note("OTEL_EXPORTER_OTLP_PROTOCOL: only http/json is spoken");
  if (!(timeout > 0)) note("OTEL_EXPORTER_OTLP_TIMEOUT: is no number of ms");
  return {
    url: urlOf(env, note),
    headers: {
      ...pairs(env["OTEL_EXPORTER_OTLP_HEADERS"]),
      ...pairs(env["OTEL_EXPORTER_OTLP_TRACES_HEADERS"]),
    },
    timeoutMs: timeout > 0 ? timeout : 10_000,
    file: env["AXON_TRACE_FILE"] || undefined,
    samplers: samplersOf(env, note),
    serviceName: env["OTEL_SERVICE_NAME"] || undefined,
    resource: pairs(env["OTEL_RESOURCE_ATTRIBUTES"]),
  };
}

function urlOf(env: Environment, note: Note): string | undefined {
  const { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: own, OTEL_EXPORTER_OTLP_ENDPOINT: base } = env;
  const text = own || (base && `${base.replace(/\/+$/, "")}/v1/traces`);
  if (!text) return undefined;
  if (/^https?:$/.test(URL.parse(text)?.protocol ?? "")) return text;
  note("OTEL_EXPORTER_OTLP_ENDPOINT: is no http address");
  return undefined;
}

/** `a=1,b=2`, percent-encoded as in W3C Baggage. */
function pairs(text = ""): Record<string, string> {
  const entries = text.split(",").flatMap((pair) => {
    const [, name, value = ""] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(pair) ?? [];
    return name === undefined ? [] : [[name, decoded(value)] as const];
  });
  return Object.fromEntries(entries);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function samplersOf(env: Environment, note: Note): Samplers {
  const { OTEL_TRACES_SAMPLER: name = "", OTEL_TRACES_SAMPLER_ARG: argument = "" } = env;
  const [, parentBased, kind = ""] =
    /^(parentbased_)?(always_on|always_off|traceidratio)$/.exec(name || "parentbased_always_on") ??
    [];
  if (kind === "") {
    note("OTEL_TRACES_SAMPLER: is not known; parentbased_always_on is taken");
  }
  const root =
    kind === "always_off"
      ? new AlwaysOffSampler()
      : kind === "traceidratio"
        ? new TraceIdRatioBasedSampler(ratioOf(argument, note))
        : new AlwaysOnSampler();
  if (kind !== "" && parentBased === undefined) return { own: root, border: root };
  return {
    own: new ParentBasedSampler({ root }),
    border: new ParentBasedSampler({ root, remoteParentSampled: root }),
  };
}

function ratioOf(text: string, note: Note): number {
  const ratio = text === "" ? 1 : Number(text);
  if (ratio >= 0 && ratio <= 1) return ratio;
  note("OTEL_TRACES_SAMPLER_ARG: is no ratio from 0 to 1; 1 is taken");
  return 1;
}
