/** The value below which a share `p` (0 to 1) of the values lies; NaN of none. */
export function quantile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(p * sorted.length))] ?? Number.NaN;
}

/** `median / p99`, in ms. */
export function spread(values: readonly number[]): string {
  return `${quantile(values, 0.5).toFixed(1)} / ${quantile(values, 0.99).toFixed(1)}`;
}

/** When the tokens of one answer arrived: ms since it was asked for, one time a token. */
export type Arrivals = number[];

export interface Latencies {
  /** Time to first token, one value an answer. */
  firstTokenMs: number[];
  /** Inter-token latency, one value a token after the first. */
  interTokenMs: number[];
  tokensPerSecond: number;
}

/** @param wallMs how long all of the answers took together. */
export function latenciesOf(answers: readonly Arrivals[], wallMs: number): Latencies {
  const firstTokenMs = answers.flatMap((arrivals) => arrivals.slice(0, 1));
  const interTokenMs = answers.flatMap((arrivals) =>
    arrivals.slice(1).map((at, i) => at - (arrivals[i] ?? at)),
  );
  const tokens = answers.reduce((sum, arrivals) => sum + arrivals.length, 0);
  return { firstTokenMs, interTokenMs, tokensPerSecond: tokens / (wallMs / 1_000) };
}

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((_, i) => Math.max(...[head, ...rows].map((r) => r[i]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  const rule = widths.map((width) => "-".repeat(width));
  return [head, rule, ...rows].map(line).join("\n");
}

/** The middle value, or the mean of the middle two; NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.slice(Math.ceil(sorted.length / 2) - 1, Math.floor(sorted.length / 2) + 1);
  return middle.reduce((sum, value) => sum + value, 0) / middle.length;
}
