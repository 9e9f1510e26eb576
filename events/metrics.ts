/**
 * Every metric of the long-lived processes, as data: those who count, the dashboard and the alerts use these
 * names and no others. Labels have the values that are listed here; beside them a process has constant ones
 * (model, revision and group; none of a relay). So the number of series is known, and neither a tenant nor a
 * turn, a connection or a text can get into one.
 *
 * What OpenTelemetry's semantic conventions for generative AI have a name for has that name, written as
 * Prometheus wants it: `gen_ai.server.time_to_first_token` in seconds is
 * `gen_ai_server_time_to_first_token_seconds`. Everything else begins with `axon_`, and is called after its
 * like in vLLM. docs/OBSERVABILITY.md has the table.
 * Sources: https://github.com/open-telemetry/semantic-conventions-genai (gen-ai-metrics.md),
 * https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/,
 * https://prometheus.io/docs/practices/naming/
 */
export interface MetricDefinition {
  type: "counter" | "gauge" | "histogram";
  help: string;
  /** Name of a label → all values that it can have. */
  labels: Readonly<Record<string, readonly string[]>>;
  /** Upper bounds of a histogram's buckets, rising; +Inf is not among them. */
  buckets?: readonly number[];
}

/** Seconds: 10 ms to a minute, and what is promised of first tokens. */
const waitBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60] as const;
/** Seconds: 1 ms to 2 s. */
const tokenBuckets = [
  0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2,
] as const;
/** Seconds, of whole answers: 0.1 s to 10 min. */
const answerBuckets = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600] as const;
/** Seconds, of a call to a store or a gateway. */
const callBuckets = [
  0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5,
] as const;
/** Tokens; the bounds that the conventions ask for, as far as a context reaches. */
const usageBuckets = [1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576] as const;

const none = {} as const;
const genAi = {
  gen_ai_operation_name: ["chat"],
  gen_ai_provider_name: ["axon"],
} as const;
/** Batch turns wait as long as it takes, and are no part of what is promised. */
const priority = ["interactive", "batch"] as const;

/** Of every long-lived process; names as Prometheus's own clients have them. */
export const processMetrics = {
  process_start_time_seconds: {
    ...{ type: "gauge", labels: none },
    help: "When the process began, in Unix seconds.",
  },
  process_cpu_seconds_total: {
    ...{ type: "counter", labels: none },
    help: "Processor time of all threads, in seconds.",
  },
  process_resident_memory_bytes: {
    ...{ type: "gauge", labels: none },
    help: "Memory in use, in bytes.",
  },
  nodejs_eventloop_lag_p99_seconds: {
    ...{ type: "gauge", labels: none },
    help: "How late the event loop was since the last scrape, 99th percentile, in seconds.",
  },
} as const satisfies Record<string, MetricDefinition>;

/** Of a group's leader; each has the labels model, revision and group beside its own. */
export const leaderMetrics = {
  ...processMetrics,
  gen_ai_server_time_to_first_token_seconds: {
    ...{ type: "histogram", labels: { ...genAi, priority }, buckets: waitBuckets },
    help: "From the request until the turn's first token is in the stream, the queue included.",
  },
  gen_ai_server_time_per_output_token_seconds: {
    ...{ type: "histogram", labels: genAi, buckets: tokenBuckets },
    help: "Mean time of a turn's tokens after the first, of answers that have ended as they should.",
  },
  gen_ai_server_request_duration_seconds: {
    ...{ type: "histogram", labels: genAi, buckets: answerBuckets },
    help: "From the request until the turn's stream is sealed.",
  },
  gen_ai_client_token_usage: {
    ...{ type: "histogram", buckets: usageBuckets },
    labels: { ...genAi, gen_ai_token_type: ["input", "output"] },
    help: "Tokens of a turn's prompt and of its answer.",
  },
  axon_inter_token_latency_seconds: {
    ...{ type: "histogram", labels: none, buckets: tokenBuckets },
    help: "Between two tokens of a turn, as the engine gives them out.",
  },
  axon_turn_queue_time_seconds: {
    ...{ type: "histogram", labels: { priority }, buckets: waitBuckets },
    help: "From the request until a leader has first claimed the turn.",
  },
  axon_turn_prefill_time_seconds: {
    ...{ type: "histogram", labels: none, buckets: waitBuckets },
    help: "From the first claim until the first token is in the stream.",
  },
  axon_turns_running: {
    ...{ type: "gauge", labels: none },
    help: "Turns in the leader's hands.",
  },
  axon_turns_finished_total: {
    type: "counter",
    labels: { finished_reason: ["stop", "length", "cancelled", "refused", "failed"] },
    help: "Turns whose stream this leader has sealed. Refused: no engine would have answered them.",
  },
  axon_turns_left_total: {
    type: "counter",
    labels: { outcome: ["finished", "held", "lost", "handed_over", "broken_off"] },
    help: "Turns that have left the leader's hands, by how.",
  },
  axon_prompt_tokens_total: {
    ...{ type: "counter", labels: none },
    help: "Tokens of the prompts of turns that were run here to their end.",
  },
  axon_generation_tokens_total: {
    ...{ type: "counter", labels: none },
    help: "Tokens that this leader has got into token streams.",
  },
  axon_jobs_received_total: {
    ...{ type: "counter", labels: none },
    help: "Jobs that came from the queue.",
  },
  axon_jobs_malformed_total: {
    ...{ type: "counter", labels: none },
    help: "Messages that were no job, now among the dead letters.",
  },
  axon_claims_total: {
    type: "counter",
    labels: { result: ["claimed", "held", "sealed"] },
    help: "Claims: the turn is ours, somebody else's, or over.",
  },
  axon_takeovers_total: {
    ...{ type: "counter", labels: none },
    help: "Turns taken over because their leader's lease had run out.",
  },
  axon_appends_total: {
    type: "counter",
    labels: { result: ["ok", "duplicate", "stale", "behind", "sealed"] },
    help: "Appends of a turn's next tokens. Stale: refused, another leader has the turn.",
  },
  axon_append_duration_seconds: {
    ...{ type: "histogram", labels: none, buckets: callBuckets },
    help: "One pipeline of appends of all running turns.",
  },
  axon_lease_renewals_total: {
    type: "counter",
    labels: { result: ["ok", "stale", "behind", "failed", "late"] },
    help: "Leases to be renewed. Failed: Redis did not answer. Late: the last renewal was still under way.",
  },
  axon_reports_total: {
    type: "counter",
    labels: { type: ["started", "completed", "cancelled", "failed"] },
    help: "Reports sent to the control plane.",
  },
  axon_engine_requests_running: {
    ...{ type: "gauge", labels: none },
    help: "Requests that the engine computes.",
  },
  axon_engine_requests_waiting: {
    ...{ type: "gauge", labels: none },
    help: "Requests that wait for a place in the engine.",
  },
  axon_engine_slots: {
    ...{ type: "gauge", labels: none },
    help: "Requests that can run at the same time.",
  },
  axon_engine_kv_cache_usage_ratio: {
    ...{ type: "gauge", labels: none },
    help: "Share of the room for keys and values that is in use, 0 to 1.",
  },
  axon_engine_steps_total: {
    ...{ type: "counter", labels: none },
    help: "Steps of the engine.",
  },
  axon_engine_step_seconds_total: {
    ...{ type: "counter", labels: none },
    help: "Time spent in steps, in seconds. Embedded engine only: a server tells nothing of it.",
  },
  axon_engine_prefix_cache_hit_tokens_total: {
    ...{ type: "counter", labels: none },
    help: "Tokens of prompts whose keys and values were found in the cache.",
  },
  axon_engine_preemptions_total: {
    ...{ type: "counter", labels: none },
    help: "How often a request had to make room and was computed again.",
  },
  axon_engine_ranks_alive: {
    ...{ type: "gauge", labels: none },
    help: "Ranks that live, of those that can be seen from here.",
  },
  axon_group_followers_missing: {
    ...{ type: "gauge", labels: none },
    help: "Other nodes of the group that have not joined, or are silent.",
  },
  axon_group_accepting: {
    ...{ type: "gauge", labels: none },
    help: "1 while the group takes new turns, 0 while it drains.",
  },
} as const satisfies Record<string, MetricDefinition>;

/** Of a relay, which has no labels but its own: who scrapes adds which pod it is. */
export const relayMetrics = {
  ...processMetrics,
  axon_relay_connections: {
    ...{ type: "gauge", labels: none },
    help: "Open connections of the relay's own door.",
  },
  axon_relay_watched_turns: {
    ...{ type: "gauge", labels: none },
    help: "Turns that somebody watches through this relay.",
  },
  axon_relay_watchers: {
    ...{ type: "gauge", labels: none },
    help: "Pairs of a connection and a turn that it watches.",
  },
  axon_relay_shards: {
    ...{ type: "gauge", labels: none },
    help: "Shards of turns that this relay owns.",
  },
  axon_relay_frames_total: {
    type: "counter",
    labels: { type: ["tokens", "rewind", "done"] },
    help: "Frames delivered.",
  },
  axon_relay_tokens_total: {
    ...{ type: "counter", labels: none },
    help: "Tokens delivered, to each connection that watches their turn.",
  },
  axon_relay_posts_total: {
    type: "counter",
    labels: {
      door: ["gateway", "own"],
      result: ["sent", "gone", "throttled", "retryable", "fatal"],
    },
    help: "Frames handed to API Gateway's callback API (gateway) or to a socket of ours (own). Gone: 410. Throttled: 429.",
  },
  axon_relay_post_duration_seconds: {
    ...{ type: "histogram", labels: { door: ["gateway", "own"] }, buckets: callBuckets },
    help: "One such call.",
  },
  axon_relay_coalescing_window_seconds: {
    ...{ type: "histogram", labels: none, buckets: callBuckets },
    help: "How long a call has waited for its place in the budget; what arrived meanwhile went with it.",
  },
  axon_relay_stream_reads_total: {
    type: "counter",
    labels: { reason: ["catch_up", "gap"] },
    help: "Reads of token streams. Gap: a notification was lost, or a connection was further behind than the relay remembers.",
  },
  axon_relay_delivery_latency_seconds: {
    ...{ type: "histogram", labels: none, buckets: callBuckets },
    help: "From hearing of a frame's first token until the frame was taken.",
  },
} as const satisfies Record<string, MetricDefinition>;
