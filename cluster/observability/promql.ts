import { leaderMetrics, type MetricDefinition, relayMetrics } from "../../events/metrics.ts";

/**
 * Queries of Prometheus, put together so that the compiler knows each metric's name, and that it is of the type
 * that the query is for.
 */

const all = { ...leaderMetrics, ...relayMetrics };
type All = typeof all;
type NamesOf<Type extends MetricDefinition["type"]> = {
  [Name in keyof All]: All[Name]["type"] extends Type ? Name : never;
}[keyof All];
export type CounterName = NamesOf<"counter">;
export type GaugeName = NamesOf<"gauge">;
export type HistogramName = NamesOf<"histogram">;

/** Label → value, or a regular expression after "~" (a variable of the dashboard, for example). */
export type Matchers = Readonly<Record<string, string>>;

export interface Grouping {
  where?: Matchers;
  by?: readonly string[];
  /** A duration of PromQL. */
  over?: string;
}

/** Grafana's: long enough for a rate, whatever the zoom. */
const zoomed = "$__rate_interval";

/** By how much a counter grows in a second, added up. */
export function rate(name: CounterName, { where, by, over = zoomed }: Grouping = {}): string {
  return sumOf(`rate(${name}${selector(where)}[${over}])`, by);
}

/** By how much a counter has grown. */
export function increase(name: CounterName, { where, by, over = zoomed }: Grouping = {}): string {
  return sumOf(`increase(${name}${selector(where)}[${over}])`, by);
}

/** Gauges, added up. */
export const sum = (name: GaugeName, { where, by }: Grouping = {}): string =>
  sumOf(`${name}${selector(where)}`, by);

/** The largest of gauges. */
export const largest = (name: GaugeName, { where, by }: Grouping = {}): string =>
  `max${byText(by)} (${name}${selector(where)})`;

/** An estimate of a histogram's quantile. */
export function quantile(
  q: number,
  name: HistogramName,
  { where, by = [], over = zoomed }: Grouping = {},
): string {
  const buckets = `rate(${name}_bucket${selector(where)}[${over}])`;
  return `histogram_quantile(${q}, ${sumOf(buckets, ["le", ...by])})`;
}

/** How many observations a second a histogram has, or only those up to one of its bounds. */
export function observations(
  name: HistogramName,
  { where = {}, by, over = zoomed, upTo }: Grouping & { upTo?: number } = {},
): string {
  if (upTo === undefined) return sumOf(`rate(${name}_count${selector(where)}[${over}])`, by);
  const buckets = all[name].buckets as readonly number[];
  if (!buckets.includes(upTo)) throw new Error(`${name} has no bucket that ends at ${upTo}.`);
  const le = { le: String(upTo), ...where };
  return sumOf(`rate(${name}_bucket${selector(le)}[${over}])`, by);
}

/** Minutes as PromQL writes them. */
export function duration(minutes: number): string {
  if (minutes % 1_440 === 0) return `${minutes / 1_440}d`;
  return minutes % 60 === 0 ? `${minutes / 60}h` : `${minutes}m`;
}

const sumOf = (expression: string, by?: readonly string[]): string =>
  `sum${byText(by)} (${expression})`;

const byText = (by: readonly string[] = []): string =>
  by.length === 0 ? "" : ` by (${by.join(", ")})`;

function selector(where: Matchers = {}): string {
  const matchers = Object.entries(where).map(([label, value]) =>
    value.startsWith("~") ? `${label}=~"${value.slice(1)}"` : `${label}="${value}"`,
  );
  return matchers.length === 0 ? "" : `{${matchers.join(", ")}}`;
}
