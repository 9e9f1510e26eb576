import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { ruleGroups } from "../../cluster/observability/alerts.ts";
import { burnRates, dayBurnRates } from "../../cluster/observability/burn-rates.ts";
import { sections } from "../../cluster/observability/dashboard.ts";
import { observations } from "../../cluster/observability/promql.ts";
import { gaugeLeader, leaderMeter } from "../../dataplane/metrics/leader-meter.ts";
import { gaugeRelay, meteredConnections, relayMeter } from "../../dataplane/metrics/relay-meter.ts";
import { functionMetrics } from "../../events/function-metrics.ts";
import { syntheticEngine } from "../support/synthetic-engine.ts";
import { type Family, parseExposition } from "./exposition.ts";
import { type PromSelector, selectorsIn } from "./promql.ts";

const root = join(import.meta.dirname, "..", "..");
const committed = (name: string) => readFileSync(join(root, "docs", "observability", name), "utf8");

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "axon-dashboards-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** What leaders and relays really register, all of it. */
function registered(): Map<string, Family> {
  const leader = leaderMeter({ model: "m", revision: "r", group: "g" });
  const relay = relayMeter();
  const connections = { ready: async () => {}, post: () => "sent" as const };
  for (const door of ["gateway", "own"] as const) meteredConnections(relay, door, connections);
  const stops = [
    gaugeLeader(leader, {
      engine: syntheticEngine({ tokens: 1 }),
      ...{ leader: { running: 0, isAccepting: true }, missingFollowers: () => 0 },
    }),
    gaugeRelay(relay, {
      relay: { shards: () => [], watched: () => ({ turns: 0, watchers: 0 }) },
      connections: () => 0,
    }),
  ];
  for (const stop of stops) stop();
  return new Map(
    [leader, relay].flatMap(({ registry }) => [...parseExposition(registry.exposition())]),
  );
}

const samples = [...registered().values()].flatMap((family) => family.samples);
const rules = ruleGroups().flatMap((group) => group.rules);
const recorded = rules.flatMap((rule) => ("record" in rule ? [rule.record] : []));
const plots = sections.flatMap((section) => section.plots);
const queries = plots.flatMap(({ lines }) =>
  "cloudWatch" in lines ? [] : lines.map(({ query }) => query),
);
const expressions = rules.map(({ expr }) => expr);
/** Labels that whoever scrapes adds. */
const scraped = ["instance", "job"];

/** What is wrong with a selector, as far as what is registered says. */
function complaintOf({ name, matchers, by }: PromSelector): string | undefined {
  const of = samples.filter((sample) => sample.name === name);
  if (recorded.includes(name)) return undefined;
  if (of.length === 0) return `${name} does not exist`;
  for (const { label, value } of matchers) {
    if (value.startsWith("$")) continue;
    for (const one of value.split("|")) {
      if (!of.some(({ labels }) => labels[label] === one))
        return `${name} has no ${label}="${one}"`;
    }
  }
  const labels = [...by, ...matchers.map(({ label }) => label)];
  const missing = labels.find(
    (label) => !scraped.includes(label) && !(label in (of[0]?.labels ?? {})),
  );
  return missing === undefined ? undefined : `${name} has no label ${missing}`;
}

describe("queries", () => {
  test.each([...queries, ...expressions])("%s: asks for what there is", (query) => {
    const selectors = selectorsIn(query);
    expect(selectors.length).toBeGreaterThan(0);
    expect(selectors.map(complaintOf).filter((one) => one !== undefined)).toEqual([]);
  });

  test.each([
    ["sum(rate(axon_turns_finishd_total[5m]))", "does not exist"],
    ['axon_claims_total{result="won"}', 'no result="won"'],
    ['axon_relay_shards{tenant=~"$model"}', "no label tenant"],
    ["sum by (turn) (rate(axon_takeovers_total[5m]))", "no label turn"],
    ["histogram_quantile(0.5, axon_takeovers_total_bucket)", "does not exist"],
  ])("%s: would be found out", (query, complaint) => {
    expect(selectorsIn(query).map(complaintOf).join()).toContain(complaint);
  });

  test("the compiler and the buckets know what can be asked", () => {
    expect(() => observations("axon_inter_token_latency_seconds", { upTo: 0.11 })).toThrow(
      "no bucket that ends at 0.11",
    );
  });

  test("every metric that is registered is drawn", () => {
    const asked = new Set(queries.flatMap(selectorsIn).map(({ name }) => name));
    const drawn = (name: string) =>
      ["", "_bucket", "_count", "_sum"].some((end) => asked.has(name + end));
    expect([...registered().keys()].filter((name) => !drawn(name))).toEqual([]);
    const cloudWatch = plots.flatMap(({ lines }) =>
      "cloudWatch" in lines ? lines.cloudWatch : [],
    );
    expect(new Set(cloudWatch.map(({ metric }) => metric))).toEqual(
      new Set(Object.keys(functionMetrics)),
    );
  });
});

describe("alerts", () => {
  test("of an objective ring above what uses up its budget too fast, in both windows", () => {
    const errors = rules.filter((rule) => "alert" in rule && rule.alert === "AxonErrorBudgetBurns");
    expect(errors.map(({ expr }) => expr.split(" and ").slice(0, 2))).toEqual([
      ["axon:turns:bad_ratio1h > 0.0144", "axon:turns:bad_ratio5m > 0.0144"],
      ["axon:turns:bad_ratio6h > 0.006", "axon:turns:bad_ratio30m > 0.006"],
      ["axon:turns:bad_ratio3d > 0.001", "axon:turns:bad_ratio6h > 0.001"],
    ]);
  });

  test("use up as much of 30 days' budget as the workbook says", () => {
    const share = (rates: typeof burnRates) =>
      rates.map(({ factor, longMinutes }) =>
        Math.round((100 * factor * longMinutes) / (30 * 1_440)),
      );
    expect(share(burnRates)).toEqual([2, 5, 10]);
    expect(share(dayBurnRates)).toEqual([2, 5, 10]);
    for (const { longMinutes, shortMinutes } of [...burnRates, ...dayBurnRates]) {
      expect(longMinutes / shortMinutes).toBe(12);
    }
  });
});

test("every metric is in docs/OBSERVABILITY.md", () => {
  const document = readFileSync(join(root, "docs", "OBSERVABILITY.md"), "utf8");
  const names = [...registered().keys(), ...Object.keys(functionMetrics)];
  // Of two that differ in their last word the second may be written as "…_waiting".
  const isTold = (name: string) =>
    document.includes(name) || document.includes(`\`…${name.slice(name.lastIndexOf("_"))}\``);
  expect(names.filter((name) => !isTold(name))).toEqual([]);
});

describe("what is committed", () => {
  test("is what the code gives: npm run build:dashboards", () => {
    execFileSync(process.execPath, [join(root, "docs", "build-dashboards.ts"), folder]);
    for (const name of ["grafana.json", "prometheus-rules.yaml"]) {
      expect(readFileSync(join(folder, name), "utf8"), name).toBe(committed(name));
    }
  });

  test("has panels that do not overlap, and rules that Prometheus can read", () => {
    const { panels } = JSON.parse(committed("grafana.json")) as {
      panels: { id: number; gridPos: { x: number; y: number; w: number; h: number } }[];
    };
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    const { groups } = parse(committed("prometheus-rules.yaml")) as ReturnType<typeof wrapped>;
    expect(groups).toEqual(wrapped().groups);
  });
});

const wrapped = () => ({ groups: ruleGroups() });
