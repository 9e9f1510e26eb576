import * as z from "zod";
import type { ObservedLoad, ObservedMeasures } from "../../../events/cluster-port.ts";
import { admissionKeys } from "../../../events/redis-keys.ts";
import { isTerminal } from "../../../events/turn.ts";
import type { Deps } from "../deps.ts";
import { turnLatencies } from "../history/turn-latencies.ts";
import { load as readTurn, turns } from "../streams.ts";

/**
 * What is seen of a revision's turns. PostgreSQL knows those that the projection has told, and admission
 * every one that was let in or is held; together they miss none while the projection is behind.
 */

const ms = z.date().transform((date) => date.getTime());

const idsSchema = z.array(z.object({ id: z.string() }));

const loadSchema = z.tuple([
  z.object({
    open: z.int(),
    waiting: z.int(),
    oldest: ms.nullable(),
    asked: ms.nullable(),
    ended: ms.nullable(),
  }),
]);

export async function observeLoad(
  { database, redis, now }: Pick<Deps, "database" | "redis" | "now">,
  revision: string,
): Promise<ObservedLoad> {
  // First Redis: a turn that leaves it meanwhile has ended in the log, and is open in PostgreSQL at worst.
  const admitted = await redis.hgetall(admissionKeys(revision).turns);
  const { rows } = await database.query(
    `SELECT count(*)::int AS open,
       count(*) FILTER (WHERE status = 'requested')::int AS waiting,
       min(requested_at) FILTER (WHERE status = 'requested') AS oldest,
       (SELECT max(requested_at) FROM turns WHERE revision = $1) AS asked,
       (SELECT max(ended_at) FROM turns WHERE revision = $1) AS ended
     FROM turns WHERE revision = $1 AND status IN ('requested', 'running')`,
    [revision],
  );
  const [row] = loadSchema.parse(rows);
  const untold = await untoldOf(database, admitted);
  const waitingSince = [...(row.oldest === null ? [] : [row.oldest]), ...untold];
  const last = [row.asked, row.ended, ...untold].filter((at) => at !== null);
  return {
    openTurns: row.open + untold.length,
    waitingTurns: row.waiting + untold.length,
    queueWaitMs: waitingSince.length === 0 ? 0 : Math.max(0, now() - Math.min(...waitingSince)),
    lastTurnAt: last.length === 0 ? undefined : Math.max(...last),
  };
}

/** So many turns are looked up in the log; more of them cannot all have ended meanwhile. */
const mostLookedUp = 50;

/**
 * The same of a revision that is on its way out, of which a group too many would be formed for nothing: a turn
 * that has ended by the log is not open, though the projection has not told its end yet.
 */
export async function observeLastTurns(
  deps: Pick<Deps, "database" | "redis" | "log" | "now">,
  revision: string,
): Promise<ObservedLoad> {
  const load = await observeLoad(deps, revision);
  if (load.openTurns === 0 || load.openTurns > mostLookedUp) return load;
  const admitted = await deps.redis.hkeys(admissionKeys(revision).turns);
  const { rows } = await deps.database.query(
    "SELECT id FROM turns WHERE revision = $1 AND status IN ('requested', 'running')",
    [revision],
  );
  const told = idsSchema.parse(rows).map(({ id }) => id);
  const states = await Promise.all(
    [...new Set([...admitted, ...told])].map((id) => readTurn(deps.log, turns, id)),
  );
  const open = states.flatMap(({ state }) =>
    state.status === "none" || isTerminal(state) ? [] : [state.status],
  );
  const waitingTurns = open.filter((status) => status === "requested").length;
  return { ...load, openTurns: open.length, waitingTurns };
}

/**
 * When each of those turns was asked for, Unix ms, that the projection has not told yet.
 * @param admitted turnId → its entry (events/redis-keys.ts, admissionKeys).
 */
async function untoldOf(
  database: Deps["database"],
  admitted: Readonly<Record<string, string>>,
): Promise<number[]> {
  const ids = Object.keys(admitted);
  if (ids.length === 0) return [];
  const { rows } = await database.query("SELECT id FROM turns WHERE id = ANY($1::text[])", [ids]);
  const told = new Set(idsSchema.parse(rows).map(({ id }) => id));
  return Object.entries(admitted)
    .filter(([id]) => !told.has(id))
    .map(([, entry]) => Number(entry.split(" ")[3]));
}

const measuresSchema = z.tuple([
  z.object({
    turns: z.int(),
    errors: z.int(),
    first_token: z.number().nullable(),
    inter_token: z.number().nullable(),
  }),
]);

/** What a turn may fail of without anybody having done it wrong but its prompt. */
const blamelessCodes = ["prompt_too_long"];

/**
 * What the turns of a revision have shown that were asked for since a moment (Unix ms) and have ended (until
 * another, if there is one), as far as the projection has told them.
 */
export async function observeMeasures(
  { database }: Pick<Deps, "database">,
  { revision, since, until }: { revision: string; since: number; until?: number },
): Promise<ObservedMeasures> {
  const { rows } = await database.query(
    `WITH ended AS (
       SELECT status, error_code, ${turnLatencies}
       FROM turns
       WHERE revision = $1 AND requested_at >= $2
         AND ($4::timestamptz IS NULL OR ended_at <= $4)
         AND status IN ('completed', 'cancelled', 'failed')
     )
     SELECT count(*)::int AS turns,
       count(*) FILTER (WHERE status = 'failed' AND error_code <> ALL ($3::text[]))::int AS errors,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY first_token) AS first_token,
       percentile_disc(0.95) WITHIN GROUP (ORDER BY inter_token) AS inter_token
     FROM ended`,
    [revision, new Date(since), blamelessCodes, until === undefined ? null : new Date(until)],
  );
  const [{ turns, errors, first_token, inter_token }] = measuresSchema.parse(rows);
  return {
    ...{ since, turns, errors },
    firstTokenP95Ms: first_token,
    interTokenP95Ms: inter_token,
  };
}
