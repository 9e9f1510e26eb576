/** A metric as the text format tells it. */
export interface Family {
  type: string;
  samples: { name: string; labels: Record<string, string>; value: number }[];
}

const nameOf = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const sampleLine = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/;
const labelPair = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/;

/**
 * Reads Prometheus's text format 0.0.4, more strictly than Prometheus does: every metric has its HELP and its TYPE,
 * stands in one piece, and no series twice; counters and histograms are what they should be.
 * Format: https://prometheus.io/docs/instrumenting/exposition_formats/
 * @throws Error that names the line
 */
export function parseExposition(text: string): Map<string, Family> {
  if (!text.endsWith("\n")) throw new Error("The last line has no end.");
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let helped: string | undefined;
  let current: { name: string; family: Family } | undefined;
  for (const line of text.slice(0, -1).split("\n")) {
    const wrong = (why: string) => new Error(`${why}: ${line}`);
    const [, kind, name = "", rest = ""] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
    if (kind === "HELP") {
      if (!nameOf.test(name) || families.has(name)) throw wrong("A name is wrong, or comes again");
      helped = name;
    } else if (kind === "TYPE") {
      if (helped !== name) throw wrong("TYPE does not follow HELP");
      if (!["counter", "gauge", "histogram"].includes(rest)) throw wrong("No type");
      current = { name, family: { type: rest, samples: [] } };
      families.set(name, current.family);
    } else {
      const [, sample = "", labels = "", value = ""] = sampleLine.exec(line) ?? [];
      if (current === undefined || !belongs(sample, current)) throw wrong("A stray sample");
      const key = line.slice(0, line.lastIndexOf(" "));
      if (seen.has(key)) throw wrong("A series comes twice");
      seen.add(key);
      current.family.samples.push({
        ...{ name: sample, labels: labelsOf(labels, wrong), value: numberOf(value, wrong) },
      });
    }
  }
  for (const [name, family] of families) checkFamily(name, family);
  return families;
}

function belongs(sample: string, { name, family }: { name: string; family: Family }): boolean {
  if (family.type !== "histogram") return sample === name;
  return ["_bucket", "_sum", "_count"].some((suffix) => sample === name + suffix);
}

function labelsOf(text: string, wrong: (why: string) => Error): Record<string, string> {
  const labels: Record<string, string> = {};
  for (let rest = text; rest !== ""; ) {
    const [pair, name = "", value = ""] = labelPair.exec(rest) ?? [];
    if (pair === undefined || name in labels) throw wrong("Labels cannot be read");
    labels[name] = value;
    rest = rest.slice(pair.length);
  }
  return labels;
}

function numberOf(text: string, wrong: (why: string) => Error): number {
  if (text === "+Inf") return Number.POSITIVE_INFINITY;
  const value = Number(text);
  if (text === "" || Number.isNaN(value)) throw wrong("No number");
  return value;
}

function checkFamily(name: string, { type, samples }: Family): void {
  if (samples.length === 0) throw new Error(`${name} has no samples.`);
  if (type === "counter" && !name.endsWith("_total")) throw new Error(`${name}: no _total.`);
  if (type !== "histogram") return;
  const series = Map.groupBy(samples, ({ labels: { le: _, ...others } }) => JSON.stringify(others));
  for (const all of series.values()) {
    const buckets = all.filter(({ name: one }) => one.endsWith("_bucket"));
    const count = all.find(({ name: one }) => one.endsWith("_count"))?.value;
    const bounds = buckets.map(({ labels }) =>
      labels["le"] === "+Inf" ? Infinity : Number(labels["le"]),
    );
    const isRising = (values: number[]) =>
      values.every((v, i) => i === 0 || v >= (values[i - 1] ?? 0));
    const values = buckets.map(({ value }) => value);
    if (!isRising(bounds) || !isRising(values)) throw new Error(`${name}: buckets fall.`);
    if (bounds.at(-1) !== Infinity || values.at(-1) !== count) throw new Error(`${name}: no +Inf.`);
    if (!all.some(({ name: one }) => one.endsWith("_sum"))) throw new Error(`${name}: no sum.`);
  }
}

/** A sample's value; of several the sum. @throws Error when there is none */
export function sampleValue(
  families: Map<string, Family>,
  sample: string,
  labels: Record<string, string> = {},
): number {
  const found = [...families.values()]
    .flatMap(({ samples }) => samples)
    .filter(
      (one) =>
        one.name === sample &&
        Object.entries(labels).every(([name, value]) => one.labels[name] === value),
    );
  if (found.length === 0) throw new Error(`There is no ${sample} ${JSON.stringify(labels)}.`);
  return found.reduce((sum, { value }) => sum + value, 0);
}
