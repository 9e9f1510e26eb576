import type { FunctionMetric } from "../../events/function-metrics.ts";

/**
 * Panels of Grafana, as few kinds of them as the dashboard needs.
 * Format: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
 */

/** Units as Grafana names them. */
type Unit = "s" | "ms" | "short" | "percentunit" | "bytes" | "ops" | "dateTimeFromNow";

/** A line of a plot: what is asked of Prometheus, and how it is called. */
export interface Line {
  query: string;
  /** With `{{label}}` in it. */
  legend: string;
}

/** A line of a plot from CloudWatch. */
export interface CloudWatchLine {
  metric: FunctionMetric;
  statistic: "Average" | "Sum" | "p50" | "p95" | "p99";
  /** Values of the metric's dimension; "*" for all, a line each. */
  of: string;
  legend: string;
}

export interface Plot {
  title: string;
  description?: string;
  unit: Unit;
  lines: readonly Line[] | { cloudWatch: readonly CloudWatchLine[] };
  /** Drawn as a line across. */
  threshold?: number;
  /** A single number instead of a curve. */
  isStat?: boolean;
  stacked?: boolean;
}

export interface Section {
  title: string;
  plots: readonly Plot[];
}

export const line = (query: string, legend: string): Line => ({ query, legend });

const columns = 24;
const plotWidth = 8;
const plotHeight = 8;

export const prometheusSource = { type: "prometheus", uid: "$prometheus" };
export const cloudWatchSource = { type: "cloudwatch", uid: "$cloudwatch" };

/** Panels of the sections, three in a row, each section under its title. */
export function panelsOf(
  sections: readonly Section[],
  cloudWatchTarget: (line: CloudWatchLine) => Record<string, unknown>,
): Record<string, unknown>[] {
  const panels: Record<string, unknown>[] = [];
  let y = 0;
  for (const { title, plots } of sections) {
    panels.push({
      ...{ id: panels.length + 1, type: "row", title, collapsed: false, panels: [] },
      gridPos: { x: 0, y, w: columns, h: 1 },
    });
    y += 1;
    for (const [i, plot] of plots.entries()) {
      const perRow = columns / plotWidth;
      const x = (i % perRow) * plotWidth;
      const gridPos = {
        ...{ x, y: y + Math.floor(i / perRow) * plotHeight, w: plotWidth, h: plotHeight },
      };
      panels.push({ id: panels.length + 1, gridPos, ...panelOf(plot, cloudWatchTarget) });
    }
    y += Math.ceil(plots.length / (columns / plotWidth)) * plotHeight;
  }
  return panels;
}

function panelOf(
  { title, description, unit, lines, threshold, isStat, stacked }: Plot,
  cloudWatchTarget: (line: CloudWatchLine) => Record<string, unknown>,
): Record<string, unknown> {
  const refId = (i: number) => String.fromCharCode(65 + i);
  const isCloudWatch = "cloudWatch" in lines;
  const datasource = isCloudWatch ? cloudWatchSource : prometheusSource;
  const asked = isCloudWatch
    ? lines.cloudWatch.map((one) => cloudWatchTarget(one))
    : lines.map(({ query, legend }) => ({ expr: query, legendFormat: legend, range: true }));
  const targets = asked.map((target, i) => ({ refId: refId(i), datasource, ...target }));
  const steps = [
    { color: "green", value: null },
    ...(threshold === undefined ? [] : [{ color: "red", value: threshold }]),
  ];
  return {
    ...{ type: isStat ? "stat" : "timeseries", title, datasource, targets },
    ...(description !== undefined && { description }),
    fieldConfig: {
      defaults: {
        unit,
        min: 0,
        thresholds: { mode: "absolute", steps },
        ...(!isStat && {
          custom: {
            ...{ lineWidth: 1, fillOpacity: stacked ? 30 : 5, showPoints: "never" },
            stacking: { mode: stacked ? "normal" : "none" },
            ...(threshold !== undefined && { thresholdsStyle: { mode: "dashed" } }),
          },
        }),
      },
      overrides: [],
    },
    options: isStat
      ? { reduceOptions: { calcs: ["lastNotNull"] }, colorMode: "value" }
      : { legend: { displayMode: "list", placement: "bottom" }, tooltip: { mode: "multi" } },
  };
}
