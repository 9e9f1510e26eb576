import { leaderMetrics } from "../../events/metrics.ts";
import { refusedCodes } from "../../events/objectives.ts";
import type { StreamEnd } from "../../events/redis-keys.ts";
import type { Priority } from "../../events/turn-events.ts";
import type { Engine } from "../engine/engine.ts";
import { countProcess } from "./process-metrics.ts";
import { Registry } from "./registry.ts";

type LeaderRegistry = Registry<typeof leaderMetrics>;

const genAi = { gen_ai_operation_name: "chat", gen_ai_provider_name: "axon" } as const;

/** What a leader counts. Of a turn it takes times and numbers, never its name, its owner or its words. */
export type LeaderMeter = ReturnType<typeof leaderMeter>;

/** @param of the constant labels: a deployment has few of each */
export function leaderMeter(of: { model: string; revision: string; group: string }) {
  const registry = new Registry(leaderMetrics, of);
  const interToken = registry.histogram("axon_inter_token_latency_seconds", {});
  const left = registry.counters("axon_turns_left_total", "outcome");
  return {
    registry,
    appendDuration: registry.histogram("axon_append_duration_seconds", {}),
    promptTokens: registry.counter("axon_prompt_tokens_total", {}),
    generatedTokens: registry.counter("axon_generation_tokens_total", {}),
    jobsReceived: registry.counter("axon_jobs_received_total", {}),
    jobsMalformed: registry.counter("axon_jobs_malformed_total", {}),
    takeovers: registry.counter("axon_takeovers_total", {}),
    claims: registry.counters("axon_claims_total", "result"),
    appends: registry.counters("axon_appends_total", "result"),
    renewals: registry.counters("axon_lease_renewals_total", "result"),
    reports: registry.counters("axon_reports_total", "type"),
    /** Turns that have left the leader's hands, by how. */
    left: {
      ...{ finished: left.finished, held: left.held, lost: left.lost },
      ...{ handedOver: left.handed_over, brokenOff: left.broken_off },
    },
    sealed: endMeter(registry),

    /** @returns what to call at each token of one turn. */
    pace(): () => void {
      let lastAt: number | undefined;
      return () => {
        const now = performance.now();
        if (lastAt !== undefined) interToken.observe((now - lastAt) / 1_000);
        lastAt = now;
      };
    },
  };
}

/**
 * What is known of a turn once its stream is sealed. A takeover is not another turn: all times are those of the
 * whole turn, from its first claim on.
 */
function endMeter(registry: LeaderRegistry): (end: StreamEnd, priority: Priority) => void {
  const byPriority = <T>(make: (priority: Priority) => T) => ({
    ...{ interactive: make("interactive"), batch: make("batch") },
  });
  const finished = registry.counters("axon_turns_finished_total", "finished_reason");
  const firstToken = byPriority((priority) =>
    registry.histogram("gen_ai_server_time_to_first_token_seconds", { ...genAi, priority }),
  );
  const queueTime = byPriority((priority) =>
    registry.histogram("axon_turn_queue_time_seconds", { priority }),
  );
  const prefillTime = registry.histogram("axon_turn_prefill_time_seconds", {});
  const perToken = registry.histogram("gen_ai_server_time_per_output_token_seconds", genAi);
  const duration = registry.histogram("gen_ai_server_request_duration_seconds", genAi);
  const usageOf = (type: "input" | "output") =>
    registry.histogram("gen_ai_client_token_usage", { ...genAi, gen_ai_token_type: type });
  const [promptUsage, answerUsage] = [usageOf("input"), usageOf("output")];

  return ({ finishReason, usage, timings, error }, priority) => {
    const { queuedMs, firstTokenMs, totalMs } = timings;
    const { promptTokens, completionTokens } = usage;
    const isRefused = error !== undefined && refusedCodes.has(error.code);
    finished[isRefused ? "refused" : finishReason].add();
    duration.observe((queuedMs + totalMs) / 1_000);
    promptUsage.observe(promptTokens);
    answerUsage.observe(completionTokens);
    queueTime[priority].observe(queuedMs / 1_000);
    // Without a token there is none to wait for.
    if (completionTokens === 0) return;
    firstToken[priority].observe((queuedMs + firstTokenMs) / 1_000);
    prefillTime.observe(firstTokenMs / 1_000);
    const isAnswer = finishReason === "stop" || finishReason === "length";
    if (!isAnswer || completionTokens < 2) return;
    perToken.observe(Math.max(0, totalMs - firstTokenMs) / 1_000 / (completionTokens - 1));
  };
}

/** The gauges of a leader and of its engine, read when somebody asks. @returns how to end the watch. */
export function gaugeLeader(
  { registry }: LeaderMeter,
  of: {
    engine: Pick<Engine, "describe" | "health">;
    leader: { running: number; isAccepting: boolean };
    /** Other nodes of the group that are not heard of. */
    missingFollowers: () => number;
  },
): () => void {
  const { engine, leader } = of;
  const health = () => engine.health();
  registry.read("axon_turns_running", {}, () => leader.running);
  registry.read("axon_group_accepting", {}, () => (leader.isAccepting ? 1 : 0));
  registry.read("axon_group_followers_missing", {}, of.missingFollowers);
  registry.read("axon_engine_slots", {}, () => engine.describe().slots);
  registry.read("axon_engine_requests_running", {}, () => health().runningTurns);
  registry.read("axon_engine_requests_waiting", {}, () => health().waitingTurns);
  registry.read("axon_engine_kv_cache_usage_ratio", {}, () => {
    const { pages, usedPages } = health().cache;
    return pages === 0 ? 0 : usedPages / pages;
  });
  registry.read("axon_engine_steps_total", {}, () => health().steps);
  registry.read("axon_engine_step_seconds_total", {}, () => health().stepSeconds ?? 0);
  registry.read("axon_engine_prefix_cache_hit_tokens_total", {}, () => health().cache.reusedTokens);
  registry.read("axon_engine_preemptions_total", {}, () => health().cache.preemptions);
  registry.read("axon_engine_ranks_alive", {}, () => {
    return health().ranks.filter(({ alive }) => alive).length;
  });
  return countProcess(registry);
}
