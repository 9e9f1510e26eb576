import { functionMetrics } from "../../events/function-metrics.ts";
import { objectives } from "../../events/objectives.ts";
import {
  type CloudWatchLine,
  cloudWatchSource,
  line,
  type Plot,
  panelsOf,
  prometheusSource,
  type Section,
} from "./panels.ts";
import {
  type GaugeName,
  type HistogramName,
  increase,
  largest,
  type Matchers,
  observations,
  quantile,
  rate,
  sum,
} from "./promql.ts";

/** What the variables at the top of the dashboard have chosen. */
const chosen: Matchers = { model: "~$model", revision: "~$revision" };
const by = ["revision"];
const ofRevision = { where: chosen, by };
const ofGroup = { where: chosen, by: ["group"] };

/** The median, the 95th and the 99th percentile, by revision. */
const percentiles = (name: HistogramName, where: Matchers = chosen) =>
  [0.5, 0.95, 0.99].map((q) => line(quantile(q, name, { where, by }), `p${q * 100} {{revision}}`));

const gaugeOfGroups = (title: string, name: GaugeName, unit: Plot["unit"] = "short"): Plot => ({
  ...{ title, unit, lines: [line(largest(name, ofGroup), "{{group}}")] },
});

const interactive = { ...chosen, priority: "interactive" };
const { firstToken, interToken, answered } = objectives;
const ttft = "gen_ai_server_time_to_first_token_seconds";
const finished = "axon_turns_finished_total";
const inTime = (name: HistogramName, upTo: number, where: Matchers) =>
  `1 - ${observations(name, { where, over: "$__range", upTo })} / ${observations(name, { where, over: "$__range" })}`;

const users: Section = {
  title: "What users notice",
  plots: [
    {
      title: "First tokens that were late",
      description: `Of the whole time shown; ${percent(firstToken.share)} are to come within ${firstToken.withinSeconds} s.`,
      ...{ unit: "percentunit", isStat: true, threshold: 1 - firstToken.share },
      lines: [line(inTime(ttft, firstToken.withinSeconds, interactive), "late")],
    },
    {
      title: "Tokens that were late",
      description: `${percent(interToken.share)} are to come within ${interToken.withinSeconds * 1_000} ms of the one before.`,
      ...{ unit: "percentunit", isStat: true, threshold: 1 - interToken.share },
      lines: [
        line(inTime("axon_inter_token_latency_seconds", interToken.withinSeconds, chosen), "late"),
      ],
    },
    {
      title: "Turns that failed",
      description: `${percent(answered.share)} are to be answered.`,
      ...{ unit: "percentunit", isStat: true, threshold: 1 - answered.share },
      lines: [
        line(
          `${rate(finished, { where: { ...chosen, finished_reason: "failed" }, over: "$__range" })} / ${rate(finished, { where: chosen, over: "$__range" })}`,
          "failed",
        ),
      ],
    },
    {
      ...{ title: "Time to first token", unit: "s", threshold: firstToken.withinSeconds },
      description: "Of interactive turns, from the request on.",
      lines: percentiles(ttft, interactive),
    },
    {
      ...{ title: "Inter-token latency", unit: "s", threshold: interToken.withinSeconds },
      lines: percentiles("axon_inter_token_latency_seconds"),
    },
    {
      ...{ title: "Turns by how they ended", unit: "ops", stacked: true },
      lines: [
        line(rate(finished, { where: chosen, by: ["finished_reason"] }), "{{finished_reason}}"),
      ],
    },
    {
      ...{ title: "Time per output token, of a turn", unit: "s" },
      lines: percentiles("gen_ai_server_time_per_output_token_seconds"),
    },
    {
      ...{ title: "Whole answers", unit: "s" },
      lines: percentiles("gen_ai_server_request_duration_seconds"),
    },
    {
      ...{ title: "Tokens of a turn, 95th percentile", unit: "short" },
      lines: [
        line(
          quantile(0.95, "gen_ai_client_token_usage", {
            ...{ where: chosen, by: ["gen_ai_token_type"] },
          }),
          "{{gen_ai_token_type}}",
        ),
      ],
    },
  ],
};

const groups: Section = {
  title: "Groups and their engines",
  plots: [
    {
      ...{ title: "Tokens a second", unit: "ops", stacked: true },
      lines: [
        line(rate("axon_generation_tokens_total", ofRevision), "written {{revision}}"),
        line(rate("axon_prompt_tokens_total", ofRevision), "of prompts {{revision}}"),
      ],
    },
    {
      ...{ title: "Turns and slots", unit: "short" },
      lines: [
        line(sum("axon_turns_running", ofRevision), "turns {{revision}}"),
        line(sum("axon_engine_requests_running", ofRevision), "computed {{revision}}"),
        line(sum("axon_engine_requests_waiting", ofRevision), "waiting {{revision}}"),
        line(sum("axon_engine_slots", ofRevision), "slots {{revision}}"),
      ],
    },
    gaugeOfGroups("KV cache in use", "axon_engine_kv_cache_usage_ratio", "percentunit"),
    {
      ...{ title: "Waiting for a leader", unit: "s" },
      description: "Admission and the queue, by priority.",
      lines: [
        line(
          quantile(0.95, "axon_turn_queue_time_seconds", { where: chosen, by: ["priority"] }),
          "p95 {{priority}}",
        ),
      ],
    },
    {
      ...{ title: "From the claim to the first token", unit: "s" },
      lines: percentiles("axon_turn_prefill_time_seconds"),
    },
    {
      ...{ title: "Mean time of a step", unit: "s" },
      description: "Of the embedded engine; a server tells nothing of it.",
      lines: [
        line(
          `${rate("axon_engine_step_seconds_total", ofGroup)} / ${rate("axon_engine_steps_total", ofGroup)}`,
          "{{group}}",
        ),
      ],
    },
    {
      ...{ title: "Prompts found in the cache, tokens a second", unit: "ops" },
      lines: [line(rate("axon_engine_prefix_cache_hit_tokens_total", ofGroup), "{{group}}")],
    },
    {
      ...{ title: "Preemptions", unit: "short" },
      lines: [line(increase("axon_engine_preemptions_total", ofGroup), "{{group}}")],
    },
    {
      ...{ title: "Groups", unit: "short" },
      lines: [
        line(sum("axon_group_accepting", ofRevision), "take turns {{revision}}"),
        line(sum("axon_engine_ranks_alive", ofRevision), "ranks {{revision}}"),
        line(sum("axon_group_followers_missing", ofRevision), "followers missing {{revision}}"),
      ],
    },
  ],
};

const leases: Section = {
  title: "Who runs what",
  plots: [
    {
      ...{ title: "Claims", unit: "ops", stacked: true },
      lines: [line(rate("axon_claims_total", { where: chosen, by: ["result"] }), "{{result}}")],
    },
    {
      ...{ title: "Takeovers", unit: "short" },
      description: "Each is a leader whose lease has run out: it has died, or did not reach Redis.",
      lines: [line(increase("axon_takeovers_total", ofRevision), "{{revision}}")],
    },
    {
      ...{ title: "Appends that were not simply taken", unit: "ops" },
      description:
        "Stale: refused, for another leader has the turn. Behind: Redis had lost tokens.",
      lines: [
        line(
          rate("axon_appends_total", {
            where: { ...chosen, result: "~duplicate|stale|behind|sealed" },
            by: ["result"],
          }),
          "{{result}}",
        ),
      ],
    },
    {
      ...{ title: "A pipeline of appends", unit: "s" },
      lines: percentiles("axon_append_duration_seconds"),
    },
    {
      ...{ title: "Leases that were not simply renewed", unit: "ops" },
      lines: [
        line(
          rate("axon_lease_renewals_total", {
            where: { ...chosen, result: "~stale|behind|failed|late" },
            by: ["result"],
          }),
          "{{result}}",
        ),
      ],
    },
    {
      ...{ title: "Turns that left, jobs, reports", unit: "ops" },
      lines: [
        line(rate("axon_turns_left_total", { where: chosen, by: ["outcome"] }), "left {{outcome}}"),
        line(rate("axon_jobs_received_total", { where: chosen }), "jobs"),
        line(rate("axon_jobs_malformed_total", { where: chosen }), "malformed jobs"),
        line(rate("axon_reports_total", { where: chosen, by: ["type"] }), "reported {{type}}"),
      ],
    },
  ],
};

const relays: Section = {
  title: "Relays",
  plots: [
    {
      ...{ title: "Who is served", unit: "short" },
      lines: [
        line(sum("axon_relay_connections"), "connections of the own door"),
        line(sum("axon_relay_watched_turns"), "watched turns"),
        line(sum("axon_relay_watchers"), "watchers"),
        line(sum("axon_relay_shards"), "shards owned"),
      ],
    },
    {
      ...{ title: "Frames and tokens a second", unit: "ops" },
      lines: [
        line(rate("axon_relay_frames_total", { by: ["type"] }), "frames {{type}}"),
        line(rate("axon_relay_tokens_total"), "tokens"),
      ],
    },
    {
      ...{ title: "Calls", unit: "ops" },
      description: "Throttled: 429 of API Gateway. Gone: 410, the connection has closed.",
      lines: [
        line(rate("axon_relay_posts_total", { by: ["door", "result"] }), "{{door}} {{result}}"),
      ],
    },
    {
      ...{ title: "Delivery, from hearing of a token", unit: "s" },
      lines: [0.5, 0.99].map((q) =>
        line(quantile(q, "axon_relay_delivery_latency_seconds"), `p${q * 100}`),
      ),
    },
    {
      ...{ title: "Coalescing window, and a call", unit: "s" },
      lines: [
        line(quantile(0.95, "axon_relay_coalescing_window_seconds"), "window p95"),
        line(
          quantile(0.95, "axon_relay_post_duration_seconds", { by: ["door"] }),
          "call p95 {{door}}",
        ),
      ],
    },
    {
      ...{ title: "Streams read back", unit: "ops" },
      description: "Gap: a notification was lost, or a connection is far behind.",
      lines: [line(rate("axon_relay_stream_reads_total", { by: ["reason"] }), "{{reason}}")],
    },
  ],
};

const processes: Section = {
  title: "Processes",
  plots: [
    {
      ...{ title: "Processor time", unit: "percentunit" },
      lines: [line(rate("process_cpu_seconds_total", { by: ["instance"] }), "{{instance}}")],
    },
    {
      ...{ title: "Memory", unit: "bytes" },
      lines: [line(largest("process_resident_memory_bytes", { by: ["instance"] }), "{{instance}}")],
    },
    {
      ...{ title: "Lag of the event loop, 99th percentile", unit: "s" },
      lines: [
        line(largest("nodejs_eventloop_lag_p99_seconds", { by: ["instance"] }), "{{instance}}"),
      ],
    },
    {
      ...{ title: "Started", unit: "dateTimeFromNow", isStat: true },
      lines: [
        line(
          `${largest("process_start_time_seconds", { by: ["instance"] })} * 1000`,
          "{{instance}}",
        ),
      ],
    },
  ],
};

const cloudWatch = (
  title: string,
  unit: Plot["unit"],
  ...lines: readonly CloudWatchLine[]
): Plot => ({ title, unit, lines: { cloudWatch: lines } });

const functions: Section = {
  title: "Functions (CloudWatch)",
  plots: [
    cloudWatch(
      ...(["Accepting a turn", "ms"] as const),
      ...(["p50", "p95", "p99"] as const).map((statistic) => ({
        ...({
          metric: "TimeToAccepted",
          of: "axon-$stage-chat",
          statistic,
          legend: statistic,
        } as const),
      })),
    ),
    cloudWatch("Turns accepted", "short", {
      ...{ metric: "AcceptedTurns", of: "axon-$stage-chat", statistic: "Sum", legend: "accepted" },
    }),
    cloudWatch("Refusals, by code", "short", {
      ...{ metric: "Refusals", of: "*", statistic: "Sum", legend: "" },
    }),
    cloudWatch("Handlers", "ms", {
      ...{ metric: "Duration", of: "*", statistic: "p95", legend: "" },
    }),
    cloudWatch("Cold starts", "short", {
      ...{ metric: "ColdStarts", of: "*", statistic: "Sum", legend: "" },
    }),
    cloudWatch(
      ...(["Lag", "ms"] as const),
      { metric: "ReportLag", of: "axon-$stage-report", statistic: "p95", legend: "of reports" },
      {
        ...{ metric: "ProjectionLag", of: "axon-$stage-project", statistic: "p95" },
        legend: "of the projection",
      },
    ),
    cloudWatch(
      ...(["Batches", "short"] as const),
      { metric: "BatchSize", of: "*", statistic: "Average", legend: "" },
      { metric: "BatchFailures", of: "*", statistic: "Sum", legend: "" },
    ),
    cloudWatch(
      ...(["Time to first token, from the log", "ms"] as const),
      { metric: "TimeToFirstToken", of: "*", statistic: "p95", legend: "" },
      { metric: "InterTokenLatency", of: "*", statistic: "p95", legend: "" },
    ),
    cloudWatch(
      ...(["Bad turns", "percentunit"] as const),
      { metric: "FirstTokenLate", of: "axon-$stage-report", statistic: "Average", legend: "late" },
      { metric: "InterTokenLate", of: "axon-$stage-report", statistic: "Average", legend: "slow" },
      { metric: "TurnFailed", of: "axon-$stage-report", statistic: "Average", legend: "failed" },
    ),
    cloudWatch("Tokens of answers", "short", {
      ...{ metric: "OutputTokens", of: "*", statistic: "Sum", legend: "" },
    }),
  ],
};

/** Of the data source in Grafana's own words, as it writes them when one clicks a query together. */
function cloudWatchTarget({ metric, statistic, of, legend }: CloudWatchLine) {
  return {
    ...{ namespace: "Axon/$stage", metricName: metric, statistic, label: legend, period: "60" },
    ...{ region: "default", dimensions: { [functionMetrics[metric].by]: of }, matchExact: true },
    ...{ queryMode: "Metrics", metricQueryType: 0, metricEditorMode: 0, expression: "", id: "" },
  };
}

export const sections: readonly Section[] = [users, groups, leases, relays, processes, functions];

/** The dashboard, as Grafana imports it. */
export function dashboard(): Record<string, unknown> {
  const labels = (name: string, label: string, where = "") => ({
    ...{ name, type: "query", datasource: prometheusSource, refresh: 2, sort: 1 },
    query: { query: `label_values(axon_engine_slots${where}, ${label})`, refId: name },
    ...{ multi: true, includeAll: true, allValue: ".*", current: { text: "All", value: "$__all" } },
  });
  const source = (name: string, { type }: { type: string }) => ({
    ...{ name, type: "datasource", query: type, label: type },
  });
  return {
    ...{ uid: "axon", title: "Axon", tags: ["axon"], schemaVersion: 39, version: 1 },
    ...{ editable: true, timezone: "browser", refresh: "30s" },
    time: { from: "now-1h", to: "now" },
    templating: {
      list: [
        source("prometheus", prometheusSource),
        source("cloudwatch", cloudWatchSource),
        { name: "stage", type: "textbox", label: "stage", query: "prod" },
        labels("model", "model"),
        labels("revision", "revision", '{model=~"$model"}'),
      ],
    },
    annotations: { list: [] },
    panels: panelsOf(sections, cloudWatchTarget),
  };
}

function percent(share: number): string {
  return `${Number((share * 100).toPrecision(6))} %`;
}
