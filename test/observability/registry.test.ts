import { describe, expect, test } from "vitest";
import { Registry } from "../../dataplane/metrics/registry.ts";
import { leaderMetrics, type MetricDefinition, relayMetrics } from "../../events/metrics.ts";
import { objectives } from "../../events/objectives.ts";
import { parseExposition, sampleValue } from "./exposition.ts";

const catalog = {
  jobs_total: { type: "counter", help: "Jobs.", labels: { result: ["ok", "bad"] } },
  wait_seconds: { type: "histogram", help: 'A "wait" \\ of\nthem.', labels: {}, buckets: [0.1, 1] },
  depth: { type: "gauge", help: "Depth.", labels: {} },
} as const satisfies Record<string, MetricDefinition>;

describe("the registry", () => {
  test("tells every series from the beginning, at 0", () => {
    const registry = new Registry(catalog, { group: 'g"\\\n' });
    registry.counters("jobs_total", "result").ok.add(3);
    registry.histogram("wait_seconds", {});
    let depth = 1;
    registry.read("depth", {}, () => depth);
    depth = 2;
    const families = parseExposition(registry.exposition());
    expect(sampleValue(families, "jobs_total", { result: "ok", group: 'g\\"\\\\\\n' })).toBe(3);
    expect(sampleValue(families, "jobs_total", { result: "bad" })).toBe(0);
    expect(sampleValue(families, "wait_seconds_count")).toBe(0);
    expect(sampleValue(families, "depth")).toBe(2);
  });

  test("counts what it observes into the bucket whose bound it does not exceed", () => {
    const registry = new Registry(catalog);
    const wait = registry.histogram("wait_seconds", {});
    for (const value of [0.1, 0.100001, 1, 5]) wait.observe(value);
    const families = parseExposition(registry.exposition());
    const bucket = (le: string) => sampleValue(families, "wait_seconds_bucket", { le });
    expect([bucket("0.1"), bucket("1"), bucket("+Inf")]).toEqual([1, 3, 4]);
    expect(sampleValue(families, "wait_seconds_sum")).toBeCloseTo(6.200001);
  });
});

test("what the parser refuses", () => {
  const head = "# HELP a_total A.\n# TYPE a_total counter\n";
  expect(() => parseExposition(`${head}a_total 1`)).toThrow("no end");
  expect(() => parseExposition("a_total 1\n")).toThrow("stray");
  expect(() => parseExposition(`${head}a_total 1\na_total 2\n`)).toThrow("twice");
  expect(() => parseExposition(`${head}a_total{b="c"d="e"} 1\n`)).toThrow("Labels");
  expect(() => parseExposition(`${head}a_total x\n`)).toThrow("number");
});

describe("the catalog", () => {
  const all: [string, MetricDefinition][] = Object.entries({ ...leaderMetrics, ...relayMetrics });

  test("has no label whose values nobody knows beforehand", () => {
    const mayBe = /tenant|user|turn|connection|conversation|prompt|text|id$/;
    for (const [name, { labels }] of all) {
      expect(
        Object.keys(labels).filter((label) => mayBe.test(label)),
        name,
      ).toEqual([]);
      const series = Object.values(labels).reduce((product, values) => product * values.length, 1);
      expect(series, name).toBeLessThanOrEqual(10);
    }
  });

  test("has buckets that rise, and one that ends where each objective does", () => {
    for (const [name, { type, buckets = [] }] of all) {
      expect(buckets.length > 0, name).toBe(type === "histogram");
      expect(
        [...new Set(buckets)].sort((a, b) => a - b),
        name,
      ).toEqual(buckets);
    }
    const { firstToken, interToken } = objectives;
    expect(leaderMetrics.gen_ai_server_time_to_first_token_seconds.buckets).toContain(
      firstToken.withinSeconds,
    );
    expect(leaderMetrics.axon_inter_token_latency_seconds.buckets).toContain(
      interToken.withinSeconds,
    );
  });
});
