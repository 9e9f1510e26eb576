import * as z from "zod";
import { warmingKey } from "../../../events/redis-keys.ts";
import { livingSlots } from "../admission/admission.ts";
import type { Deps } from "../deps.ts";
import type { RequestLog } from "../request-log.ts";

/** A turn whose revision has no group now: one is on its way, or is to be. */
export interface Warming {
  /** Until it takes turns, ms. */
  estimatedMs: number;
  /** None forms yet. */
  isAsleep: boolean;
}

const toldSchema = z.object({
  /** Unix ms. */
  at: z.int(),
  estimatedMs: z.int().min(0),
  isForming: z.boolean(),
});
export type ToldWarming = z.infer<typeof toldSchema>;

const leastMs = 1_000;

/**
 * Whether a turn waits for a group to form, as after a rest. Undefined where a group lives, where the manager
 * knows of none that will, and where neither can be seen now.
 */
export async function warmingOf(
  { redis, now }: Pick<Deps, "redis" | "now">,
  revision: string,
  log: Pick<RequestLog, "warn">,
): Promise<Warming | undefined> {
  try {
    if ((await livingSlots(redis, revision)) > 0) return undefined;
    const text = await redis.get(warmingKey(revision));
    if (text === null) return undefined;
    const { at, estimatedMs, isForming } = toldSchema.parse(JSON.parse(text));
    // One that sleeps begins to form only now.
    const left = isForming ? at + estimatedMs - now() : estimatedMs;
    return { estimatedMs: Math.max(leastMs, left), isAsleep: !isForming };
  } catch (error) {
    // The turn is accepted all the same.
    log.warn("it is not known how long the turn waits for a group", { error });
    return undefined;
  }
}
