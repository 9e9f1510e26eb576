import type { PoolClient } from "pg";
import * as z from "zod";
import {
  conversationStream,
  type EventLog,
  rolloutStream,
  turnStream,
} from "../../../events/event-log.ts";
import { type Telling, tablesLock, tellOpened } from "../history/projection.ts";
import {
  historyTables,
  liveSchema,
  pageLock,
  patient,
  rebuildSchema,
  within,
} from "./rebuild-tables.ts";

/** So long the switch waits for those who use the tables; then it lets them go on, and is tried again. */
const switchPatienceMs = 3_000;
const lockNotAvailable = "55P03";

/**
 * Puts the new tables in the place of those in use, in one transaction. Before it nobody sees them, after it
 * everybody does. Whoever writes meanwhile waits and goes on in the new ones: names are looked up again after
 * the wait, and each commit that the old tables know and the new ones do not (it came late to the index of
 * the log, or a moment ago) is told first. So none is lost; and one that comes again changes nothing.
 * @returns false when others have held the tables for too long: nothing has changed then.
 */
export async function switchTables(
  client: PoolClient,
  projection: string,
  telling: Telling,
): Promise<boolean> {
  const live = `"${await liveSchema(client)}"`;
  // Almost all of the difference goes before anybody has to wait.
  await within(client, () => tellDifference(client, live, telling));
  for (const table of historyTables)
    await client.query(patient(`ANALYZE ${rebuildSchema}.${table}`));
  try {
    await within(client, async () => {
      await client.query(`SET LOCAL lock_timeout = ${switchPatienceMs}`);
      await client.query("SELECT pg_advisory_xact_lock($1)", [tablesLock]);
      await client.query("SELECT pg_advisory_xact_lock($1)", [pageLock]);
      const inUse = historyTables.map((table) => `${live}.${table}`);
      await client.query(`LOCK TABLE ${inUse.join(", ")} IN ACCESS EXCLUSIVE MODE`);
      await tellDifference(client, live, telling);
      await client.query(`SET LOCAL search_path TO ${live}`);
      await client.query(`DROP TABLE ${inUse.join(", ")}`);
      for (const table of historyTables) {
        await client.query(`ALTER TABLE ${rebuildSchema}.${table} SET SCHEMA ${live}`);
      }
      await client.query("DELETE FROM rebuilds WHERE projection = $1", [projection]);
      await client.query(`DROP SCHEMA ${rebuildSchema} CASCADE`);
    });
    return true;
  } catch (error) {
    if ((error as { code?: unknown }).code === lockNotAvailable) return false;
    throw error;
  }
}

const streamsSchema = z.array(z.object({ stream: z.string() }));

/** Tells the new tables what only those in use know, by the streams themselves. */
async function tellDifference(client: PoolClient, live: string, telling: Telling): Promise<void> {
  const { rows } = await client.query(patient(differenceOf(live)));
  await client.query(`SET LOCAL search_path TO ${rebuildSchema}`);
  for (const { stream } of streamsSchema.parse(rows)) {
    await tellStream(client, stream, telling, telling.log);
  }
}

async function tellStream(
  client: PoolClient,
  stream: string,
  telling: Telling,
  log: EventLog,
): Promise<void> {
  // The last commit brings those before it along.
  const last = (await log.read(stream)).at(-1);
  if (last !== undefined) await tellOpened(client, telling, last);
}

function differenceOf(live: string): string {
  const kinds = [
    { table: "conversations", id: "id", prefix: conversationStream("") },
    { table: "turns", id: "id", prefix: turnStream("") },
    { table: "rollouts", id: "model", prefix: rolloutStream("") },
  ];
  return kinds
    .map(
      ({ table, id, prefix }) =>
        `SELECT '${prefix}' || known.${id} AS stream FROM ${live}.${table} known
         LEFT JOIN ${rebuildSchema}.${table} told USING (${id})
         WHERE told.${id} IS NULL OR told.log_version < known.log_version`,
    )
    .join(" UNION ALL ");
}
