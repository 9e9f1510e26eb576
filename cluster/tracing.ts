import type { Deployment } from "./deployment.ts";

/**
 * How functions and pods are told where their spans go: by OpenTelemetry's own variables. Nothing where the
 * deployment says nothing of it: then nothing is traced, and nothing of it loaded.
 */
export function tracingVariables({ tracing }: Deployment): Record<string, string> {
  if (tracing === undefined) return {};
  const { endpoint, sampleRatio } = tracing;
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
    OTEL_TRACES_SAMPLER_ARG: String(sampleRatio),
  };
}

/** What only workers are told: the texts of a turn are with them alone. */
export function contentVariables({ tracing }: Deployment): Record<string, string> {
  const { contentTenants = [] } = tracing ?? {};
  return contentTenants.length === 0
    ? {}
    : { AXON_TRACE_CONTENT_TENANTS: contentTenants.join(",") };
}

/** The port of the collector, which pods have to be let through to. */
export function collectorPort({ tracing }: Deployment): number | undefined {
  if (tracing === undefined) return undefined;
  const { port, protocol } = new URL(tracing.endpoint);
  return Number(port || (protocol === "https:" ? 443 : 80));
}
