import type { Deps } from "../deps.ts";
import { execute } from "../execute.ts";
import type { RequestLog } from "../request-log.ts";
import { rollouts } from "../streams.ts";
import { warmingOf } from "./warming.ts";

/**
 * Asks for a group of a revision that sleeps, for the first turn after its rest. It is recorded, and so
 * `manage`, which follows what is recorded of rollouts, need not wait for its tick. Whether a revision sleeps
 * Redis knows, so that for all other turns nothing is read of the log. Asked again it changes nothing; where
 * it fails the tick finds the turn.
 */
export async function wakeUp(
  deps: Pick<Deps, "log" | "redis" | "now">,
  { model, revision }: { model: string; revision: string },
  log: Pick<RequestLog, "info" | "warn">,
): Promise<void> {
  const warming = await warmingOf(deps, revision, log);
  if (!warming?.isAsleep) return;
  try {
    const command = { type: "WakeRevision", at: deps.now(), model, revision } as const;
    const { events } = await execute(deps.log, rollouts, model, () => command);
    if (events.length > 0) log.info("a revision that slept is woken", { revision });
  } catch (error) {
    log.warn("a revision is not woken at once", { revision, error });
  }
}
