import { z } from "zod";
import {
  type HistoryEntry,
  historyEntrySchema,
  type RolloutStatus,
  rolloutStatusSchema,
} from "../events/views.ts";
import { timesText } from "./figures.ts";

/** What `ops` answers about a model, and how it is shown in a terminal. */

const weightsSchema = z.array(z.object({ revision: z.string(), percent: z.number() }));

export type Status = RolloutStatus;
type Measured = NonNullable<NonNullable<Status["gates"]>["measured"]>[number];
type Limits = NonNullable<Status["gates"]>["limits"];
export type History = readonly HistoryEntry[];

export const answeredStatus = z.looseObject({ status: rolloutStatusSchema });
export const answeredHistory = z.looseObject({
  status: rolloutStatusSchema,
  history: z.array(historyEntrySchema),
});

const time = (ms: number): string => new Date(ms).toISOString();
const clock = (ms: number): string => time(ms).slice(11, 19);
const line = (name: string, text: string): string => `  ${name.padEnd(10)} ${text}\n`;
const percent = (share: number) => Number((100 * share).toFixed(1));
const traffic = (weights: Status["weights"]): string =>
  weights.length === 0
    ? "none: no revision serves"
    : weights.map(({ revision, percent }) => `${revision} ${percent} %`).join(", ");

export function statusText(status: Status): string {
  const { model, queue, past, retiring, position } = status;
  return [
    `${model}: ${status.status}\n`,
    line("traffic", traffic(status.weights)),
    ...rolloutLines(status),
    ...status.scales.map((scale, i) => line(i === 0 ? "scale" : "", scaleText(scale))),
    ...status.groups.map((group, i) => line(i === 0 ? "groups" : "", groupText(group))),
    ...(retiring === null ? [] : [line("retiring", retiringText(retiring))]),
    ...queue.map(({ rolloutId, revision, by }) =>
      line("waits", `${rolloutId}: ${revision}, by ${by}`),
    ),
    ...past.slice(-1).map((last) => line("last", pastText(last))),
    line("as of", position ?? "the log has nothing of it"),
  ].join("");
}

function scaleText({ revision, min, max, target, zeroAfterMs }: Status["scales"][number]): string {
  const rest = zeroAfterMs === null ? "" : `, none after ${zeroAfterMs / 1_000} s without turns`;
  const aims = `${percent(target.busySlots)} % of the slots busy, ${target.queueWaitMs} ms of waiting`;
  return `${revision}: ${min} to ${max} groups for ${aims}${rest}`;
}

function retiringText({
  revision,
  because,
  isDraining,
  isOverdue,
}: NonNullable<Status["retiring"]>): string {
  const phase = isDraining ? "its groups drain" : "its turns end";
  return `${revision} is ${because}; ${phase}${isOverdue ? ", overdue" : ""}`;
}

function pastText({
  rolloutId,
  revision,
  outcome,
  reason,
  endedAt,
}: Status["past"][number]): string {
  return `${rolloutId}: ${revision} was ${outcome} at ${clock(endedAt)}: ${reason}`;
}

function rolloutLines({ rollout, deadline, gates }: Status): string[] {
  if (rollout === null) return [];
  const { rolloutId, revision, by, step, steps, percent, phase, since, paused } = rollout;
  const late = deadline === null ? "" : `, late at ${clock(deadline)}`;
  const place = `step ${step + 1} of ${steps.length} (${percent} % now)`;
  const where = `${place}, ${phase} since ${clock(since)}${late}`;
  return [
    line("rollout", `${rolloutId}: ${revision}, by ${by}; ${where}`),
    ...(paused === null ? [] : [line("paused", `by ${paused.by}: ${paused.reason}`)]),
    ...(gates === null ? [] : gateLines(gates)),
  ];
}

/** Less is the time that telling takes anyhow. */
const lateMs = 2_000;

function gateLines({ limits, measured, lagMs }: NonNullable<Status["gates"]>): string[] {
  if (measured === null) return [line("gates", "what the turns show is not known now")];
  const isLate = lagMs !== null && lagMs > lateMs;
  // The rollout's own revision comes first, and it alone has limits; the other one is the baseline.
  return [
    ...measured.map((one, i) =>
      line(i === 0 ? "gates" : "", measuredText(one, i === 0 ? limits : undefined)),
    ),
    ...(isLate ? [line("", `seen ${Math.round(lagMs / 1_000)} s late: the projection lags`)] : []),
  ];
}

function measuredText(
  { revision, turns, errors, firstTokenP95Ms, interTokenP95Ms }: Measured,
  limits: Limits | undefined,
): string {
  const of = (value: number | string, limit: number | null | undefined, unit: string) =>
    `${value}${limit === undefined || limit === null ? "" : ` of ${limit}`}${unit}`;
  const rounded = (value: number | null) => (value === null ? "–" : Math.round(value));
  const rate = turns === 0 ? 0 : percent(errors / turns);
  const mostErrors =
    limits === undefined || limits.errorRate === null ? null : percent(limits.errorRate);
  const facts = [
    of(turns, limits?.minimumTurns, " turns"),
    `errors ${of(rate, mostErrors, " %")}`,
    `first token p95 ${of(rounded(firstTokenP95Ms), limits?.firstTokenP95Ms, " ms")}`,
    `between tokens p95 ${of(rounded(interTokenP95Ms), limits?.interTokenP95Ms, " ms")}`,
  ];
  return `${revision}: ${facts.join("; ")}`;
}

function groupText({
  groupId,
  status,
  slots,
  losses,
  formedInMs,
  reason,
}: Status["groups"][number]) {
  const facts = [
    ...(slots === undefined || slots === 0 ? [] : [`${slots} slots`]),
    ...(typeof formedInMs === "number" ? [`formed in ${(formedInMs / 1_000).toFixed(1)} s`] : []),
    ...(losses === undefined || losses === 0 ? [] : [`lost ${timesText(losses)}`]),
    ...(typeof reason === "string" ? [reason] : []),
  ];
  return `${groupId.padEnd(24)} ${status.padEnd(9)} ${facts.join(", ")}`.trimEnd();
}

/** Facts that the line says already, or that only matter to machines. */
const told = new Set([
  "type",
  "version",
  "at",
  "model",
  "by",
  "reason",
  "request",
  "scale",
  "timeouts",
]);

/** One line an event: when, what, its facts, who and why. */
export function historyText(history: History): string {
  return history
    .map(({ stream, event }) => {
      const { by, reason, request } = event;
      const facts = Object.entries(event)
        .filter(([name]) => !told.has(name))
        .map(([name, value]) => `${name}=${shown(value)}`);
      const why = [by === undefined ? "" : `by ${by}`, reason ?? ""].filter((text) => text !== "");
      if (request !== undefined) facts.push(`${request.rolloutId}: ${request.revision}`);
      const end = why.length === 0 ? "" : `  (${why.join(": ")})`;
      const what = `${stream.startsWith("group/") ? "  " : ""}${event.type}`;
      return `  ${time(event.at).slice(0, 23)}  ${what.padEnd(18)} ${facts.join(" ")}${end}\n`;
    })
    .join("");
}

function shown(value: unknown): string {
  if (typeof value === "string") return value;
  const weights = weightsSchema.safeParse(value);
  if (weights.success && weights.data.length > 0) return `[${traffic(weights.data)}]`;
  // Measured times have more digits than anybody reads.
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === "number" && !Number.isInteger(part) ? Number(part.toFixed(2)) : part,
  );
}
