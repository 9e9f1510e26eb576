import { median, table } from "../statistics.ts";
import type { PeerProgram } from "./peer-process.ts";
import type { Measure, RoundResults } from "./rounds.ts";

export interface Report {
  /** The machine, the versions and the model, a line each. */
  conditions: string[];
  /** The embedded engine: on all ranks, and on one where that was measured too. */
  ours: readonly PeerProgram[];
  theirs: readonly PeerProgram[];
  results: RoundResults;
  /** Bytes a second that the machine read from memory. */
  readBandwidth: number;
  /** Bytes of weights that a decoded token reads. */
  weightBytesPerToken: number;
  /** Weights in 8 bits, and the pages of keys and values that were in use: what memory is for. */
  expectedBytes: { weights: number; pages: number };
  /** What was not measured, and why. */
  missing: readonly string[];
}

/** In Markdown, for docs/PERFORMANCE.md. */
export function writeReport(report: Report): string {
  const { conditions, ours, theirs, results, missing } = report;
  const others = ours.length > 1 ? ["tp over one rank"] : [];
  const head = ["", ...[...ours, ...theirs].map(({ name }) => name), ...others];
  if (theirs.length > 0) head.push("Axon over the faster llama.cpp");
  const rows = results.measures.map((measure) => rowOf(report, measure));
  const parts = [conditions.join("\n"), table(head, rows), notes(report).join("\n")];
  if (missing.length > 0) parts.push(missing.map((line) => `Not measured: ${line}`).join("\n"));
  return parts.join("\n\n");
}

function rowOf({ ours, theirs }: Report, measure: Measure): string[] {
  const middleOf = (program: PeerProgram) => median(measure.values.get(program) ?? []);
  const cells = [...ours, ...theirs].map((program) => {
    return cellOf(measure.values.get(program) ?? []);
  });
  const [own, single] = ours;
  const isRate = measure.unit === "tokens/s";
  if (own !== undefined && single !== undefined) {
    cells.push(ratio(isRate, middleOf(own), middleOf(single)));
  }
  if (own !== undefined && theirs.length > 0) {
    const best = (isRate ? Math.max : Math.min)(...theirs.map(middleOf));
    cells.push(ratio(isRate, middleOf(own), best));
  }
  return [`${measure.name}, ${measure.unit}`, ...cells];
}

/** `median (least – most)` of the rounds. */
function cellOf(values: readonly number[]): string {
  if (values.length === 0) return "";
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return `${median(values).toFixed(0)} (${least.toFixed(0)} – ${most.toFixed(0)})`;
}

/** How many times better the one is: faster, or smaller where that is what counts. */
function ratio(isRate: boolean, value: number, other: number): string {
  return `${(isRate ? value / other : other / value).toFixed(2)} ×`;
}

function notes(report: Report): string[] {
  const { ours, theirs, results, readBandwidth, weightBytesPerToken, expectedBytes } = report;
  const megabytes = (bytes: number) => (bytes / 1e6).toFixed(0);
  const lines = [
    "The ratios are those of medians; above 1 is better, for times and memory too. " +
      "Memory is what each process takes beyond its start.",
    `Weights in 8 bits take ${megabytes(expectedBytes.weights)} MB, and the pages of keys and ` +
      `values that were in use when memory was measured ${megabytes(expectedBytes.pages)} MB.`,
  ];
  const decode = results.measures.find(({ name }) => name === "decode, batch 1");
  const shares = [...ours, ...theirs].map((program) => {
    const rate = median(decode?.values.get(program) ?? []);
    const share = (rate * weightBytesPerToken) / readBandwidth;
    return `${program.name} ${(100 * share).toFixed(0)} %`;
  });
  lines.push(
    `Memory was read with ${(readBandwidth / 1e9).toFixed(1)} GB/s. At batch 1 each token reads ` +
      `${megabytes(weightBytesPerToken)} MB of weights, which comes to a share of that bandwidth ` +
      `of: ${shares.join(", ")}.`,
  );
  const { agreeing, compared } = results;
  if (compared > 0) {
    lines.push(`Of ${compared} answers, ${agreeing} began with the same token in all engines.`);
  }
  const busy = (100 * results.busyShare).toFixed(0);
  lines.push(`While all engines waited, ${busy} % of the processors was in use by other programs.`);
  return lines;
}
