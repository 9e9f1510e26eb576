import {
  type FunctionMetric,
  functionMetrics,
  type MeasuredOf,
} from "../../events/function-metrics.ts";

/** Where metrics go. Without one nothing is written. */
export interface MetricSink {
  /** CloudWatch's namespace, of the stage. */
  namespace: string;
  /** Takes a line, with no line break in it. */
  write(line: string): void;
}

/** What one invocation has measured. */
export interface InvocationMeter {
  measure<Name extends FunctionMetric>(name: Name, value: number, ...of: MeasuredOf<Name>): void;
  /** Writes what was measured since the last time. */
  flush(): void;
}

/** Of one metric in one document, at most: "Specification: Embedded metric format". */
const mostValues = 100;

const silent: InvocationMeter = { measure: () => {}, flush: () => {} };

/**
 * Measures of an invocation, written as CloudWatch's embedded metric format: lines of the log, of which
 * CloudWatch makes metrics, without a call and without a library. One line for the function, and one more for each
 * error code and revision that is among them, since a document has one value for a dimension.
 * Format: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
 */
export function invocationMeter(
  sink: MetricSink | undefined,
  functionName: string,
  now: () => number = Date.now,
): InvocationMeter {
  if (sink === undefined) return silent;
  /** By dimension and its value, by metric. */
  const measured = new Map<string, Map<FunctionMetric, number[]>>();
  return {
    measure(name, value, ...of) {
      const { by } = functionMetrics[name];
      const key = JSON.stringify([by, of[0] ?? functionName]);
      const metrics = measured.get(key) ?? new Map<FunctionMetric, number[]>();
      measured.set(key, metrics);
      const values = metrics.get(name) ?? [];
      metrics.set(name, values);
      values.push(value);
    },
    flush() {
      for (const [key, metrics] of measured) {
        const [dimension, value] = JSON.parse(key) as [string, string];
        for (const document of documents(sink.namespace, now(), { [dimension]: value }, metrics)) {
          sink.write(JSON.stringify(document));
        }
      }
      measured.clear();
    },
  };
}

function documents(
  namespace: string,
  timestamp: number,
  dimensions: Record<string, string>,
  metrics: ReadonlyMap<FunctionMetric, readonly number[]>,
): Record<string, unknown>[] {
  const longest = Math.max(...[...metrics.values()].map((values) => values.length));
  const made: Record<string, unknown>[] = [];
  for (let from = 0; from < longest; from += mostValues) {
    const part = [...metrics]
      .map(([name, values]) => [name, values.slice(from, from + mostValues)] as const)
      .filter(([, values]) => values.length > 0);
    const Metrics = part.map(([Name]) => ({ Name, Unit: functionMetrics[Name].unit }));
    const directive = { Namespace: namespace, Dimensions: [Object.keys(dimensions)], Metrics };
    made.push({
      _aws: { Timestamp: timestamp, CloudWatchMetrics: [directive] },
      ...dimensions,
      ...Object.fromEntries(
        part.map(([name, [one, ...more]]) => [name, more.length ? [one, ...more] : one]),
      ),
    });
  }
  return made;
}
