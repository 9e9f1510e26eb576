import type { ObservedLoad } from "./cluster-port.ts";
import type { KnownGroup } from "./group.ts";
import type { Scale } from "./rollout-request.ts";

/** How many groups a revision is to have, by the turns that it has. */

export interface ScaleInput {
  scale: Scale;
  /** Groups that there are or that form. */
  groups: number;
  /** Turns that one group runs at the same time; undefined before any was ready. */
  slots: number | undefined;
  /** Undefined where it is not known. */
  load: ObservedLoad | undefined;
  /** When a group was added, and when one was taken away, the last time, Unix ms. */
  grownAt: number;
  shrunkAt: number;
  now: number;
}

export interface ScaleDecision {
  groups: number;
  /** What for, where it is another number than before. */
  reason: string;
}

/** Without it a load at the edge of two numbers would change the number at each cool-down. */
const spareShare = 0.75;

/**
 * Up to the groups whose slots hold the open turns at the target share, as Kubernetes' horizontal
 * autoscaler does it (desired = ⌈metric / target⌉), and by one more where turns wait longer than they may; down
 * by one at a time, when the turns would take no more than three quarters of the target then. Each change waits
 * for its cool-down. The first turn after a rest waits for nothing, nor does what is below the minimum or above
 * the maximum.
 */
export function autoscale(input: ScaleInput): ScaleDecision {
  const { scale, groups, load, grownAt, shrunkAt, now } = input;
  const stay = { groups, reason: "" };
  const floor = scale.zeroAfterMs === null ? Math.max(scale.min, 1) : scale.min;
  if (groups > scale.max) return { groups: scale.max, reason: `the most is ${scale.max}` };
  if (groups < floor) return { groups: floor, reason: `the least is ${floor}` };
  if (load === undefined) return stay;
  if (groups === 0) {
    if (load.openTurns === 0) return stay;
    return { groups: 1, reason: "the first turn after a rest" };
  }
  if (floor === 0 && scale.zeroAfterMs !== null && load.openTurns === 0) {
    const idleMs = now - Math.max(load.lastTurnAt ?? 0, grownAt);
    if (idleMs >= scale.zeroAfterMs) return { groups: 0, reason: `no turn for ${idleMs} ms` };
  }
  const { groups: wanted, reason } = demanded(input, load);
  if (wanted > groups)
    return now >= grownAt + scale.cooldown.upMs ? { groups: wanted, reason } : stay;
  const { busySlots } = scale.target;
  const isSpare =
    input.slots !== undefined &&
    load.openTurns <= (groups - 1) * input.slots * busySlots * spareShare;
  const isCool = now >= Math.max(grownAt, shrunkAt) + scale.cooldown.downMs;
  return wanted < groups && isSpare && isCool ? { groups: groups - 1, reason } : stay;
}

function demanded({ scale, groups, slots }: ScaleInput, load: ObservedLoad): ScaleDecision {
  const { openTurns, waitingTurns, queueWaitMs } = load;
  const { busySlots, queueWaitMs: target } = scale.target;
  // A number of groups that is whole must not become the next one by the rounding of the division.
  const bySlots = slots === undefined ? groups : Math.ceil(openTurns / (slots * busySlots) - 1e-9);
  const isLate = waitingTurns > 0 && queueWaitMs > target;
  const wanted = Math.max(bySlots, isLate ? groups + 1 : 0);
  const reason =
    isLate && bySlots <= groups
      ? `turns wait ${queueWaitMs} ms; ${target} ms is the target`
      : `${openTurns} turns are open; ${busySlots} of ${slots} slots a group is the target`;
  return { groups: Math.min(scale.max, Math.max(1, scale.min, wanted)), reason };
}

/** What a group is thought to take to form before one of its revision was seen to. */
const assumedFormMs = 300_000;

/**
 * How long a turn has to wait until a group is ready, ms; 0 where one is. Groups form about as long as
 * those before them.
 */
export function warmingMs(groups: readonly KnownGroup[], now: number): number {
  if (groups.some(({ status }) => status === "ready")) return 0;
  const known = groups.flatMap(({ formedInMs }) => formedInMs ?? []);
  const usualMs = known.length === 0 ? assumedFormMs : Math.max(...known);
  const left = groups
    .filter(({ status }) => status === "forming")
    .map(({ formingSince }) => Math.max(1_000, formingSince + usualMs - now));
  return Math.min(usualMs, ...left);
}
