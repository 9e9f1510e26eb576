import { objectives } from "../../events/objectives.ts";
import { relayShards } from "../../events/redis-keys.ts";
import { type BurnRate, burnRates, fewestBad } from "./burn-rates.ts";
import { duration, increase, largest, observations, quantile, rate, sum } from "./promql.ts";

/** Rules of Prometheus: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/ */
export interface RuleGroup {
  name: string;
  rules: (RecordingRule | AlertRule)[];
}
interface RecordingRule {
  record: string;
  expr: string;
}
interface AlertRule {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: BurnRate["severity"] };
  annotations: { summary: string; description: string; runbook: string };
}

/** One objective, as events a second that count, and of them those that are bad. */
interface Objective {
  /** In names of rules, and of alerts. */
  name: string;
  alert: string;
  share: number;
  bad(over: string): string;
  all(over: string): string;
  what: string;
}

const by = ["model"];
const firstToken = "gen_ai_server_time_to_first_token_seconds";
const interToken = "axon_inter_token_latency_seconds";
const finished = "axon_turns_finished_total";
/** Batch turns wait as long as it takes. */
const interactive = { priority: "interactive" };

const promised: readonly Objective[] = [
  {
    ...{ name: "first_token", alert: "AxonFirstTokenBudgetBurns" },
    share: objectives.firstToken.share,
    all: (over) => observations(firstToken, { by, over, where: interactive }),
    bad: (over) => {
      const upTo = objectives.firstToken.withinSeconds;
      const good = observations(firstToken, { by, over, where: interactive, upTo });
      return `(${observations(firstToken, { by, over, where: interactive })} - ${good})`;
    },
    what: `First tokens take longer than ${objectives.firstToken.withinSeconds} s`,
  },
  {
    ...{ name: "inter_token", alert: "AxonInterTokenBudgetBurns" },
    share: objectives.interToken.share,
    all: (over) => observations(interToken, { by, over }),
    bad: (over) => {
      const good = observations(interToken, {
        by,
        over,
        upTo: objectives.interToken.withinSeconds,
      });
      return `(${observations(interToken, { by, over })} - ${good})`;
    },
    what: `Tokens come more than ${objectives.interToken.withinSeconds * 1_000} ms apart`,
  },
  {
    ...{ name: "turns", alert: "AxonErrorBudgetBurns" },
    share: objectives.answered.share,
    all: (over) => rate(finished, { by, over }),
    bad: (over) => rate(finished, { by, over, where: { finished_reason: "failed" } }),
    what: "Turns fail",
  },
];

const ratioName = ({ name }: Objective, minutes: number): string =>
  `axon:${name}:bad_ratio${duration(minutes)}`;

const runbook = 'docs/OBSERVABILITY.md, "Alarms"';

/** All rules, in the order in which Prometheus works them out. */
export function ruleGroups(): RuleGroup[] {
  const windows = [...new Set(burnRates.flatMap((one) => [one.longMinutes, one.shortMinutes]))];
  return [
    {
      name: "axon-ratios",
      rules: promised.flatMap((objective) =>
        windows.map((minutes) => {
          const over = duration(minutes);
          const expr = `${objective.bad(over)} / ${objective.all(over)}`;
          return { record: ratioName(objective, minutes), expr };
        }),
      ),
    },
    {
      name: "axon-objectives",
      rules: promised.flatMap((objective) => burnRates.map((burn) => burnAlert(objective, burn))),
    },
    { name: "axon-symptoms", rules: symptoms() },
  ];
}

function burnAlert(objective: Objective, burn: BurnRate): AlertRule {
  const { severity, longMinutes, shortMinutes, factor } = burn;
  const long = duration(longMinutes);
  const threshold = rounded(factor * (1 - objective.share));
  const exceeded = [longMinutes, shortMinutes].map(
    (minutes) => `${ratioName(objective, minutes)} > ${threshold}`,
  );
  const fewest = rounded(fewestBad / (longMinutes * 60));
  return {
    alert: objective.alert,
    expr: [...exceeded, `${objective.bad(long)} >= ${fewest}`].join(" and "),
    labels: { severity },
    annotations: {
      summary: `${objective.what}, at {{ $labels.model }}`,
      description: `For ${long} more than ${rounded(threshold * 100)} % of them: ${factor} times what the objective of ${rounded(objective.share * 100)} % over 30 days allows.`,
      runbook,
    },
  };
}

/** Without the noise of binary fractions. */
const rounded = (value: number): number => Number(value.toPrecision(6));

/** What users will feel soon, or what does not mend itself. */
function symptoms(): AlertRule[] {
  return [
    {
      ...alert("AxonNoGroup", "page", "2m", noGroup),
      annotations: told(
        "No group of {{ $labels.model }} takes turns",
        "Turns are accepted and wait. Look at the groups: they drain, or cannot form.",
      ),
    },
    {
      ...alert("AxonEngineStalled", "page", "1m", stalled()),
      annotations: told(
        "The engine of {{ $labels.group }} makes no step, and has turns",
        "A rank is stuck. The group should have ended itself after 20 s: end its leader's pod.",
      ),
    },
    {
      ...alert("AxonFollowersMissing", "ticket", "5m", `${missing} > 0`),
      annotations: told(
        "Nodes of {{ $labels.group }} are not heard of",
        "The group cannot become ready, or is about to end: look at its followers' pods.",
      ),
    },
    {
      ...alert("AxonCacheFull", "ticket", "10m", `${cacheUse} > 0.95`),
      annotations: told(
        "The KV cache of {{ $labels.group }} is full",
        "Requests wait or are preempted. Give the revision more groups, or a shorter context.",
      ),
    },
    {
      ...alert("AxonLeasesNotRenewed", "ticket", "2m", `${notRenewed} > 0`),
      annotations: told(
        "{{ $labels.group }} does not get its leases renewed",
        "Redis answers late or not at all: turns are about to be taken over.",
      ),
    },
    {
      ...alert("AxonTakeovers", "ticket", "5m", `${takeovers} > 10`),
      annotations: told(
        "Leaders of {{ $labels.model }} lose their turns",
        "More than ten turns were taken over in 15 minutes: groups die, or Redis is slow.",
      ),
    },
    {
      ...alert("AxonCallbacksThrottled", "ticket", "5m", `${throttled} > 1`),
      annotations: told(
        "API Gateway throttles callbacks",
        "The account's quota is used up by others: lower callbacksPerSecond, or open the relays' own door.",
      ),
    },
    {
      ...alert("AxonDeliverySlow", "page", "5m", `${slowDelivery} > 1`),
      annotations: told(
        "Tokens reach connections late",
        "The 99th percentile from hearing of a token until its frame was taken is over 1 s.",
      ),
    },
    {
      ...alert("AxonShardsUnowned", "page", "1m", `${sum("axon_relay_shards")} < ${relayShards}`),
      annotations: told(
        "Turns that nobody delivers",
        "Relays are gone, or cannot reach Redis: connections of API Gateway get nothing meanwhile.",
      ),
    },
  ];
}

const group = { by: ["model", "revision", "group"] };
const noGroup = `${sum("axon_group_accepting", { by })} == 0 or absent(axon_group_accepting)`;
const missing = largest("axon_group_followers_missing", group);
const cacheUse = largest("axon_engine_kv_cache_usage_ratio", group);
const notRenewed = rate("axon_lease_renewals_total", {
  ...{ ...group, over: "2m", where: { result: "~failed|late" } },
});
const takeovers = increase("axon_takeovers_total", { by, over: "15m" });
const throttled = rate("axon_relay_posts_total", { over: "5m", where: { result: "throttled" } });
const slowDelivery = quantile(0.99, "axon_relay_delivery_latency_seconds", { over: "5m" });

function stalled(): string {
  const running = sum("axon_engine_requests_running", group);
  return `${running} > 0 and ${rate("axon_engine_steps_total", { ...group, over: "1m" })} == 0`;
}

const alert = (name: string, severity: BurnRate["severity"], minutes: string, expr: string) => ({
  ...{ alert: name, expr, for: minutes, labels: { severity } },
});

const told = (summary: string, description: string): AlertRule["annotations"] => ({
  ...{ summary, description, runbook },
});
