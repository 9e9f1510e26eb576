import type { Context } from "aws-lambda";
import * as z from "zod";
import { isTerminal } from "../events/turn.ts";
import { admissionLimits, leave, release } from "./lib/admission/admission.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import type { RequestLog } from "./lib/request-log.ts";
import { stack } from "./lib/stack.ts";
import { load, turns } from "./lib/streams.ts";
import { type JobDeps, type JobOutcome, sendMissingJob, sendReleased } from "./lib/turns/jobs.ts";
import { abandonedRevisions, endStranded } from "./lib/turns/stranded.ts";

const tickSchema = z.looseObject({
  /** The queue is known to have lost its jobs: marks that they were sent mean nothing. */
  ignoreMarkers: z.boolean().default(false),
});
export type SweepTick = z.input<typeof tickSchema>;

/** How many turns were open, and what became of each; `stranded`: nobody is left to answer it. */
export type SweepResult = Record<JobOutcome | "stranded" | "failed" | "open", number>;

type SweepDeps = JobDeps & Pick<Deps, "database" | "now">;

const pageSize = 200;

/**
 * Sends the jobs again of turns that are open and that nobody has, by the clock: the net under the
 * outbox, for jobs that a queue has lost and turns whose leader died without a successor. It is also how
 * admission comes to know again what Redis has lost, and that there is more room than there was. A turn of a
 * revision that has no groups and will get none is ended.
 */
export function sweep(
  deps: SweepDeps,
): (tick: SweepTick, context: Context) => Promise<SweepResult> {
  return stack<SweepTick, SweepResult>(deps, { keysOf: () => ({}) }, async (tick, { log }) => {
    const { ignoreMarkers: ignoreMarker } = tickSchema.parse(tick);
    const result = {
      open: 0,
      sent: 0,
      marked: 0,
      waiting: 0,
      early: 0,
      held: 0,
      ended: 0,
      stranded: 0,
      failed: 0,
    };
    const isAbandoned = abandonedRevisions(deps);
    for await (const turn of openTurns(deps)) {
      result.open++;
      try {
        const isStranded = (await isAbandoned(turn)) && (await strand(deps, turn, log.fork()));
        if (isStranded) result.stranded++;
        else result[await sendMissingJob(deps, turn, log.fork(), { ignoreMarker })]++;
      } catch (error) {
        // One turn that cannot be sent must not keep the others from it.
        result.failed++;
        log.fork().error("a job cannot be sent", { turnId: turn.turnId, error });
      }
    }
    await sendWaiting(deps, log);
    if (result.open > 0) log.info("swept", result);
    return result;
  });
}

/** Ends a turn that is stranded. @returns whether it has ended. */
async function strand(
  deps: SweepDeps,
  { turnId, revision }: { turnId: string; revision: string },
  log: RequestLog,
): Promise<boolean> {
  const { state } = await load(deps.log, turns, turnId);
  if (state.status === "none" || isTerminal(state)) return false;
  if (!(await endStranded(deps, state))) return false;
  log.warn("a turn was ended whose revision has no groups any more", { turnId, revision });
  await sendReleased(deps, await leave(deps, revision, turnId), log);
  return true;
}

/** Sends what may be sent by now, at each revision. */
async function sendWaiting(deps: JobDeps, log: RequestLog): Promise<void> {
  for (const { revision } of deps.models.all()) {
    for (;;) {
      const released = await release(deps, revision);
      if (released.length === 0) break;
      await sendReleased(deps, released, log);
    }
  }
}

const rowsSchema = z.array(
  z.object({ id: z.string(), model: z.string(), revision: z.string(), requested_at: z.string() }),
);

/** The open turns, in the order in which they were asked. */
async function* openTurns({
  database,
}: SweepDeps): AsyncGenerator<{ turnId: string; model: string; revision: string }> {
  let after = ["-infinity", ""];
  for (;;) {
    // The time as text: a Date would lose its microseconds, and with them the place to go on from.
    const { rows } = await database.query(
      `SELECT id, model, revision, requested_at::text FROM turns
       WHERE status IN ('requested', 'running') AND (requested_at, id) > ($1::timestamptz, $2)
       ORDER BY requested_at, id LIMIT $3`,
      [...after, pageSize],
    );
    const open = rowsSchema.parse(rows);
    for (const { id: turnId, model, revision } of open) yield { turnId, model, revision };
    const last = open.at(-1);
    if (last === undefined || open.length < pageSize) return;
    after = [last.requested_at, last.id];
  }
}

export const handler = lambda(sweep, [eventLog, redis, queues, database, models, admissionLimits]);
