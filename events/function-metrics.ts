/**
 * Metrics of the functions, in CloudWatch (docs/OBSERVABILITY.md, "Functions"), with the dimension that each is
 * told apart by. A name costs by the month for each value that its dimension takes, so there are few of both:
 * functions, error codes and revisions are counted by a deployment; tenants and turns are not, and are nowhere.
 */
export const functionMetrics = {
  /** How long the handler took. */
  Duration: { unit: "Milliseconds", by: "FunctionName" },
  /** Invocations that were the first of their execution environment. */
  ColdStarts: { unit: "Count", by: "FunctionName" },
  /** Requests that were refused, and records of a batch that failed, by error code. */
  Refusals: { unit: "Count", by: "Code" },
  /** Records of a batch. */
  BatchSize: { unit: "Count", by: "FunctionName" },
  /** Records that will come again. */
  BatchFailures: { unit: "Count", by: "FunctionName" },
  /** Turns that were accepted, each the first time. */
  AcceptedTurns: { unit: "Count", by: "FunctionName" },
  /** From the gateway's receipt of a request until its turn was accepted. */
  TimeToAccepted: { unit: "Milliseconds", by: "FunctionName" },
  /** From a leader's report until it was an event. */
  ReportLag: { unit: "Milliseconds", by: "FunctionName" },
  /** From an event until it was in the projection. */
  ProjectionLag: { unit: "Milliseconds", by: "FunctionName" },
  /** Of turns that have ended. */
  TimeToFirstToken: { unit: "Milliseconds", by: "Revision" },
  InterTokenLatency: { unit: "Milliseconds", by: "Revision" },
  OutputTokens: { unit: "Count", by: "Revision" },
  /** 1 for a turn that was not as promised (objectives.ts), else 0: the average is the share of bad ones. */
  FirstTokenLate: { unit: "None", by: "FunctionName" },
  InterTokenLate: { unit: "None", by: "FunctionName" },
  TurnFailed: { unit: "None", by: "FunctionName" },
} as const satisfies Record<string, FunctionMetricDefinition>;

interface FunctionMetricDefinition {
  /** A unit of CloudWatch. */
  unit: "Count" | "Milliseconds" | "None";
  by: "FunctionName" | "Code" | "Revision";
}

export type FunctionMetric = keyof typeof functionMetrics;
/** What a metric is told apart by, beside the function. */
export type MeasuredOf<Name extends FunctionMetric> =
  (typeof functionMetrics)[Name]["by"] extends "FunctionName" ? [] : [of: string];
