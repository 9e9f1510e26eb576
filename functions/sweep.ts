import type { Context } from "aws-lambda";
import { z } from "zod";
import type { Deps } from "./lib/deps.ts";
import { type JobOutcome, sendMissingJob } from "./lib/jobs.ts";
import { stack } from "./lib/stack.ts";

const tickSchema = z.looseObject({
  /** The queue is known to have lost its jobs: marks that they were sent mean nothing. */
  ignoreMarkers: z.boolean().default(false),
});
export type SweepTick = z.input<typeof tickSchema>;

/** How many turns were open, and what became of each. */
export type SweepResult = Record<JobOutcome | "failed" | "open", number>;

const pageSize = 200;

/**
 * Sends the jobs again of turns that are open and that nobody has, by the clock: the net under the
 * outbox, for jobs that a queue has lost and turns whose leader died without a successor.
 */
export function sweep(deps: Deps): (tick: SweepTick, context: Context) => Promise<SweepResult> {
  return stack<SweepTick, SweepResult>(deps, { keysOf: () => ({}) }, async (tick, { log }) => {
    const { ignoreMarkers: ignoreMarker } = tickSchema.parse(tick);
    const result = { open: 0, sent: 0, marked: 0, held: 0, ended: 0, failed: 0 };
    for await (const turnId of openTurns(deps)) {
      result.open++;
      try {
        result[await sendMissingJob(deps, turnId, { ignoreMarker })]++;
      } catch (error) {
        // One turn that cannot be sent must not keep the others from it.
        result.failed++;
        log.fork().error("a job cannot be sent", { turnId, error });
      }
    }
    if (result.open > 0) log.info("swept", result);
    return result;
  });
}

const rowsSchema = z.array(z.object({ id: z.string() }));

async function* openTurns({ database }: Deps): AsyncGenerator<string> {
  let after = "";
  for (;;) {
    const { rows } = await database.query(
      `SELECT id FROM turns WHERE status IN ('requested', 'running') AND id > $1
       ORDER BY id LIMIT $2`,
      [after, pageSize],
    );
    const ids = rowsSchema.parse(rows).map(({ id }) => id);
    yield* ids;
    const last = ids.at(-1);
    if (last === undefined || ids.length < pageSize) return;
    after = last;
  }
}
