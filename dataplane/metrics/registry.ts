import type { MetricDefinition } from "../../events/metrics.ts";

/** Goes up only. */
export interface Counter {
  add(amount?: number): void;
}

/** Counts what it observes in buckets. */
export interface Histogram {
  observe(value: number): void;
}

type Catalog = Readonly<Record<string, MetricDefinition>>;
type NamesOf<C extends Catalog, Type> = {
  [Name in keyof C]: C[Name]["type"] extends Type ? Name : never;
}[keyof C];
/** A value for each label, and none that is not in the catalog. */
type LabelsOf<D extends MetricDefinition> = {
  [Label in keyof D["labels"]]: D["labels"][Label][number];
};

interface Series {
  /** As they stand in a line: written once, since a scrape has hundreds of them. */
  labels: readonly string[];
  samples(): readonly Sample[];
}
interface Sample {
  /** After the metric's name. */
  suffix: string;
  value: number;
  /** The bound of a bucket. */
  le?: string;
}

/**
 * The metrics of a process, of a catalog that says all names, labels and values that there can be. Each
 * series is there from the beginning, at 0, as Prometheus asks for (a rate needs a value to begin with), and
 * counting is an addition in memory: labels are resolved once, and nothing is allocated per token.
 *
 * prom-client does the same with labels looked up by each call, and any string as a value; what it has beyond
 * (summaries, a push gateway, clusters) nobody here needs.
 */
export class Registry<const C extends Catalog> {
  readonly #catalog: C;
  readonly #constant: Readonly<Record<string, string>>;
  readonly #series = new Map<string, Series[]>();

  /** @param constant labels of every series; values that a deployment has few of */
  constructor(catalog: C, constant: Readonly<Record<string, string>> = {}) {
    this.#catalog = catalog;
    this.#constant = constant;
  }

  counter<N extends NamesOf<C, "counter"> & string>(name: N, labels: LabelsOf<C[N]>): Counter {
    let value = 0;
    this.#add(name, labels, () => [{ suffix: "", value }]);
    return {
      add(amount = 1) {
        value += amount;
      },
    };
  }

  /** A number that is read when somebody asks, of a gauge or of a counter that somebody else keeps. */
  read<N extends NamesOf<C, "counter" | "gauge"> & string>(
    name: N,
    labels: LabelsOf<C[N]>,
    read: () => number,
  ): void {
    this.#add(name, labels, () => [{ suffix: "", value: read() }]);
  }

  histogram<N extends NamesOf<C, "histogram"> & string>(
    name: N,
    labels: LabelsOf<C[N]>,
  ): Histogram {
    const bounds = this.#catalog[name]?.buckets ?? [];
    const counts = new Float64Array(bounds.length + 1);
    let sum = 0;
    this.#add(name, labels, () => histogramSamples(bounds, counts, sum));
    return {
      observe(value) {
        let bucket = 0;
        while (bucket < bounds.length && value > (bounds[bucket] ?? 0)) bucket++;
        counts[bucket] = (counts[bucket] ?? 0) + 1;
        sum += value;
      },
    };
  }

  /** Counters of a metric with one label, by its values. */
  counters<N extends NamesOf<C, "counter"> & string, L extends keyof C[N]["labels"] & string>(
    name: N,
    label: L,
  ): Record<C[N]["labels"][L][number], Counter> {
    const values: readonly string[] = this.#catalog[name]?.labels[label] ?? [];
    const entries = values.map((value) => [
      value,
      this.counter(name, { [label]: value } as LabelsOf<C[N]>),
    ]);
    return Object.fromEntries(entries) as Record<C[N]["labels"][L][number], Counter>;
  }

  /** The text format of Prometheus, version 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/ */
  exposition(): string {
    const lines: string[] = [];
    for (const [name, { help, type }] of Object.entries(this.#catalog)) {
      const all = this.#series.get(name);
      if (all === undefined) continue;
      lines.push(`# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`);
      lines.push(`# TYPE ${name} ${type}`);
      for (const { labels, samples } of all) {
        for (const sample of samples()) {
          const { suffix, value, le } = sample;
          const pairs = le === undefined ? labels : [...labels, `le="${le}"`];
          const text = pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
          lines.push(`${name}${suffix}${text} ${numberText(value)}`);
        }
      }
    }
    return `${lines.join("\n")}\n`;
  }

  #add(
    name: string,
    labels: Readonly<Record<string, string>>,
    samples: () => readonly Sample[],
  ): void {
    const all = this.#series.get(name) ?? [];
    const entries = Object.entries({ ...this.#constant, ...labels });
    all.push({ labels: entries.map(([label, value]) => `${label}="${escaped(value)}"`), samples });
    this.#series.set(name, all);
  }
}

function histogramSamples(
  bounds: readonly number[],
  counts: Float64Array,
  sum: number,
): readonly Sample[] {
  const samples: Sample[] = [];
  let count = 0;
  for (const [i, bound] of [...bounds, Number.POSITIVE_INFINITY].entries()) {
    count += counts[i] ?? 0;
    samples.push({ suffix: "_bucket", le: numberText(bound), value: count });
  }
  samples.push({ suffix: "_sum", value: sum });
  samples.push({ suffix: "_count", value: count });
  return samples;
}

const escaped = (value: string): string =>
  value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

function numberText(value: number): string {
  if (value === Number.POSITIVE_INFINITY) return "+Inf";
  if (value === Number.NEGATIVE_INFINITY) return "-Inf";
  return Number.isNaN(value) ? "NaN" : String(value);
}
