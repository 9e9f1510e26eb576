import { describe, expect, test } from "vitest";
import { functionMetrics } from "../../events/function-metrics.ts";
import { graphOf, unavailable } from "./harness/graph.ts";

const prod = graphOf("prod");

describe.skipIf(unavailable)("what is promised", () => {
  const windows = prod
    .all("cloudwatch/metricAlarm")
    .filter(({ inputs }) => inputs["metricQueries"] !== undefined);
  const composites = prod.all("cloudwatch/compositeAlarm");

  test("has a page and a ticket, each of which tells somebody", () => {
    expect(composites.map(({ inputs }) => inputs["alarmName"]).sort()).toEqual(
      ["answered", "first-token", "inter-token"].flatMap((name) =>
        ["page", "ticket"].map((severity) => `axon-prod-${name}-burn-${severity}`),
      ),
    );
    for (const { inputs } of composites) {
      expect(inputs["alarmActions"]).toEqual(inputs["okActions"]);
      expect(inputs["alarmActions"]).toHaveLength(1);
    }
  });

  test("rings where both windows of a burn rate say so, and only of alarms that there are", () => {
    const { alarmRule } = prod.one("cloudwatch/compositeAlarm", "AnsweredBurnPage").inputs;
    expect(alarmRule).toBe(
      '(ALARM("axon-prod-answered-burn-14.4x-60m") AND ALARM("axon-prod-answered-burn-14.4x-5m"))' +
        ' OR (ALARM("axon-prod-answered-burn-6x-360m") AND ALARM("axon-prod-answered-burn-6x-30m"))',
    );
    const named = composites.flatMap(({ inputs }) =>
      [...String(inputs["alarmRule"]).matchAll(/ALARM\("([^"]+)"\)/g)].map((match) => match[1]),
    );
    expect(named.sort()).toEqual(windows.map(({ inputs }) => inputs["name"]).sort());
  });

  test("is measured by what `report` tells, in periods that CloudWatch has", () => {
    expect(windows).toHaveLength(18);
    for (const { inputs, name } of windows) {
      const [share, bad, burn] = inputs["metricQueries"];
      expect(Object.keys(functionMetrics)).toContain(share.metric.metricName);
      expect(share.metric, name).toMatchObject({
        ...{ namespace: "Axon/prod", stat: "Average" },
        dimensions: { FunctionName: "axon-prod-report" },
      });
      expect(bad.metric, name).toEqual({ ...share.metric, stat: "Sum" });
      expect(burn, name).toMatchObject({ returnData: true });
      const { period } = share.metric;
      expect(period % 60 === 0 && period <= 86_400, name).toBe(true);
      expect(inputs["alarmActions"] ?? [], name).toEqual([]);
    }
  });

  test("rings at the rates of the workbook", () => {
    const thresholds = windows
      .filter(({ inputs }) => inputs["name"].includes("answered"))
      .map(({ inputs }) => [inputs["metricQueries"][0].metric.period / 60, inputs["threshold"]]);
    expect(thresholds).toEqual([
      ...[
        [60, 0.0144],
        [5, 0.0144],
      ],
      ...[
        [360, 0.006],
        [30, 0.006],
      ],
      ...[
        [1_440, 0.003],
        [120, 0.003],
      ],
    ]);
  });
});
