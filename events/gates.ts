import * as z from "zod";
import type { Gates } from "./rollout-request.ts";

/** Gates: what a revision's turns must show before it gets more of them. */

/** What the turns of one revision showed that were asked for since a moment, and have ended. */
export const measuredSchema = z.strictObject({
  turns: z.int().min(0),
  /** Of them, those that failed by a fault of ours; a prompt that is too long is none. */
  errors: z.int().min(0),
  /** From the claim until the first token; null where no turn had one. */
  firstTokenP95Ms: z.number().min(0).nullable(),
  /** Between two tokens of an answer: its time after the first token by its tokens after the first. */
  interTokenP95Ms: z.number().min(0).nullable(),
});
export type Measured = z.infer<typeof measuredSchema>;

/** A gate that was not passed: what was measured, and what it allows. */
export const failureSchema = z.strictObject({
  gate: z.enum([
    "errorRate",
    "firstTokenP95Ms",
    "interTokenP95Ms",
    "firstTokenSlowdown",
    "interTokenSlowdown",
  ]),
  measured: z.number(),
  limit: z.number(),
});
export type GateFailure = z.infer<typeof failureSchema>;

/** `open` while there are too few turns to say, and none too bad already. */
export type Verdict = { result: "open" | "passed" } | { result: "failed"; failures: GateFailure[] };

/**
 * Errors fail a gate as soon as the turns that are missing to the minimum could not make up for them;
 * latencies are judged by the minimum of turns, those of the baseline included.
 */
export function judge(gates: Gates, measured: Measured, baseline: Measured | null): Verdict {
  const { turns, errors } = measured;
  const isEnough = turns >= gates.minimumTurns;
  const failures: GateFailure[] = [];

  const judged = Math.max(turns, gates.minimumTurns, 1);
  if (gates.errorRate !== null && errors > gates.errorRate * judged) {
    failures.push({ gate: "errorRate", measured: errors / turns, limit: gates.errorRate });
  }
  const known = baseline !== null && baseline.turns >= gates.minimumTurns ? baseline : undefined;
  for (const name of ["firstToken", "interToken"] as const) {
    const value = measured[`${name}P95Ms`];
    if (!isEnough || value === null) continue;
    const limit = gates[`${name}P95Ms`];
    if (limit !== null && value > limit) {
      failures.push({ gate: `${name}P95Ms`, measured: value, limit });
    }
    const usual = known?.[`${name}P95Ms`] ?? null;
    if (gates.slowdown === null || usual === null || usual === 0) continue;
    const slowdown = value / usual;
    if (slowdown > gates.slowdown) {
      failures.push({ gate: `${name}Slowdown`, measured: slowdown, limit: gates.slowdown });
    }
  }
  if (failures.length > 0) return { result: "failed", failures };
  return { result: isEnough ? "passed" : "open" };
}

/** The failures in words. */
export function describeFailures(failures: readonly GateFailure[]): string {
  const rounded = (value: number) => Number(value.toPrecision(3));
  return failures
    .map(({ gate, measured, limit }) => `${gate} ${rounded(measured)} is above ${limit}`)
    .join("; ");
}
