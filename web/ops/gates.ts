import type { RolloutStatus } from "../../events/views.ts";
import { count, duration, percentOf } from "./format.ts";
import type { Tone } from "./observation-view.tsx";

/** A gate as it is shown: what it asks for, and what both revisions have done. */
export interface GateRow {
  gate: string;
  limit: string;
  candidate: string;
  promoted: string;
  verdict: { tone: Tone; text: string };
}

type Gates = NonNullable<RolloutStatus["gates"]>;
type Measured = NonNullable<Gates["measured"]>[number];

/**
 * The gates of a step as they stand now. Only the manager judges (events/gates.ts), at the end of the step or
 * when a gate cannot be passed any more; this shows where it is heading.
 * @param revision the one that is tried.
 */
export function gateRows({ limits, measured }: Gates, revision: string): GateRow[] {
  const candidate = measured?.find((each) => each.revision === revision);
  const promoted = measured?.find((each) => each.revision !== revision);
  const { minimumTurns, errorRate, slowdown } = limits;
  const isEnough = (candidate?.turns ?? 0) >= minimumTurns;
  const enough = isEnough ? good("enough") : waiting("not enough yet");
  const rows: GateRow[] = [
    {
      gate: "Turns that have ended",
      limit: `at least ${count(minimumTurns)}`,
      candidate: count(candidate?.turns),
      promoted: count(promoted?.turns),
      verdict: enough,
    },
  ];
  if (errorRate !== null) {
    const rate = errorRateOf(candidate);
    rows.push({
      gate: "Failed turns",
      limit: `at most ${percentOf(errorRate)}`,
      candidate: percentOf(rate),
      promoted: percentOf(errorRateOf(promoted)),
      verdict: verdictOf(rate, errorRate, isEnough),
    });
  }
  for (const { name, key } of latencies) {
    const value = candidate?.[key] ?? null;
    const baseline = promoted?.[key] ?? null;
    const bounds = boundsOf(limits[key], slowdown, baseline);
    if (bounds === undefined) continue;
    rows.push({
      gate: name,
      limit: bounds.text,
      candidate: duration(value),
      promoted: duration(baseline),
      verdict: verdictOf(value, bounds.most, isEnough),
    });
  }
  return rows;
}

const latencies = [
  { name: "Time to first token, p95", key: "firstTokenP95Ms" },
  { name: "Inter-token latency, p95", key: "interTokenP95Ms" },
] as const;

/** The lower of the gate's own limit and of so many times the other revision's; undefined without either. */
function boundsOf(
  limit: number | null,
  slowdown: number | null,
  baseline: number | null,
): { text: string; most: number } | undefined {
  const relative = slowdown === null || baseline === null ? null : slowdown * baseline;
  const most = Math.min(limit ?? Number.POSITIVE_INFINITY, relative ?? Number.POSITIVE_INFINITY);
  const texts = [
    limit !== null && `at most ${duration(limit)}`,
    slowdown !== null && `at most ${slowdown} × the other's`,
  ].filter((text) => text !== false);
  return texts.length === 0 ? undefined : { text: texts.join(" and "), most };
}

function errorRateOf(measured: Measured | undefined): number | null {
  return measured === undefined || measured.turns === 0 ? null : measured.errors / measured.turns;
}

const good = (text: string) => ({ tone: "good", text }) as const;
const waiting = (text: string) => ({ tone: "quiet", text }) as const;

function verdictOf(value: number | null, most: number, isEnough: boolean): GateRow["verdict"] {
  if (value === null) return waiting("not known yet");
  if (value > most) return { tone: isEnough ? "danger" : "warn", text: "above the limit" };
  return isEnough ? good("within the limit") : waiting("within it so far");
}
