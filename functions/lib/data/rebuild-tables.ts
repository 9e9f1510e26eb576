import type { PoolClient, QueryConfig } from "pg";
import * as z from "zod";
import { migrations } from "../../migrations/migrations.ts";
import type { Database } from "../database.ts";
import { eraseRows } from "../history/projection.ts";
import { inTransaction } from "../transaction.ts";

/**
 * The tables of a rebuild. They stand in a schema of their own, made by the same migrations as those in use,
 * so that they have the same columns, indexes and names, and become those in use by moving.
 */
export const rebuildSchema = "axon_rebuild";

/** In the order in which readers lock them, so that a switch and a reader never wait for each other. */
export const historyTables = [
  "conversations",
  "conversation_turns",
  "turns",
  "messages",
  "rollouts",
] as const;

/** Whoever writes a page of a rebuild has this lock, and whoever erases in its tables. */
export const pageLock = 7_190_004;

/** A rebuild that has begun, as the database notes it. */
export interface Rebuild {
  projection: string;
  migration: string;
  /** By shard of the log: everything up to there is in the new tables. */
  positions: Record<string, string>;
  commits: number;
  events: number;
  expected: number;
  workingMs: number;
}

const count = z.coerce.number();
const rowSchema = z
  .object({
    projection: z.string(),
    migration: z.string(),
    positions: z.record(z.string(), z.string()),
    ...{ commits: count, events: count, expected: count, working_ms: count },
  })
  .transform(({ working_ms: workingMs, ...row }): Rebuild => ({ ...row, workingMs }));

export async function rebuildUnderWay(
  client: Database | PoolClient,
  projection: string,
): Promise<Rebuild | undefined> {
  const { rows } = await client.query("SELECT * FROM rebuilds WHERE projection = $1", [projection]);
  return z.array(rowSchema).parse(rows)[0];
}

const newestMigration = (): string => migrations.at(-1)?.name ?? "";

/** Whether the tables of a rebuild still are what the code expects of those in use. */
export const isCurrent = ({ migration }: Rebuild): boolean => migration === newestMigration();

/** The schema of the tables in use. */
export async function liveSchema(client: PoolClient): Promise<string> {
  const { rows } = await client.query("SELECT current_schema() AS name");
  return z.tuple([z.object({ name: z.string() })]).parse(rows)[0].name;
}

/** Makes empty tables and notes that a rebuild has begun, in one transaction. What another has left goes. */
export async function beginRebuild(client: PoolClient, projection: string): Promise<Rebuild> {
  return within(client, async () => {
    const live = await liveSchema(client);
    await client.query(`DROP SCHEMA IF EXISTS ${rebuildSchema} CASCADE`);
    await client.query(`CREATE SCHEMA ${rebuildSchema}`);
    await client.query(`SET LOCAL search_path TO ${rebuildSchema}`);
    for (const { sql } of migrations) await client.query(sql);
    await client.query(`SET LOCAL search_path TO "${live}"`);
    await client.query("DELETE FROM rebuilds WHERE projection = $1", [projection]);
    await client.query(
      `INSERT INTO rebuilds (projection, schema, migration, positions, commits, events, expected,
         started_at, working_ms)
       SELECT $1, $2, $3, '{}', 0, 0, (SELECT coalesce(sum(log_version), 0) FROM turns)
         + (SELECT coalesce(sum(log_version), 0) FROM conversations), now(), 0`,
      [projection, rebuildSchema, newestMigration()],
    );
    const begun = await rebuildUnderWay(client, projection);
    if (begun === undefined) throw new Error("A rebuild that was noted is not there.");
    return begun;
  });
}

/** Throws a rebuild away. @returns whether there was one. */
export async function dropRebuild(client: PoolClient, projection: string): Promise<boolean> {
  return within(client, async () => {
    await client.query("SELECT pg_advisory_xact_lock($1)", [pageLock]);
    await client.query(`DROP SCHEMA IF EXISTS ${rebuildSchema} CASCADE`);
    const { rowCount } = await client.query("DELETE FROM rebuilds WHERE projection = $1", [
      projection,
    ]);
    return rowCount === 1;
  });
}

/** A transaction on a connection that the caller has taken for itself, and uses for nothing after a failure. */
export async function within<T>(client: PoolClient, work: () => Promise<T>): Promise<T> {
  await client.query("BEGIN");
  try {
    const result = await work();
    await client.query("COMMIT");
    return result;
  } catch (error) {
    // A connection that is broken has rolled back by that.
    await client.query("ROLLBACK").catch(() => undefined);
    throw error;
  }
}

/** A statement over whole tables: it may take longer than others may. */
export const patient = (text: string): QueryConfig & { query_timeout: number } => ({
  text,
  query_timeout: 600_000,
});

/**
 * Takes a conversation's words out of the tables of a rebuild, if one is under way. Those in use know it as
 * erased already, so what the rebuild writes after this has none.
 */
export async function eraseInRebuild(database: Database, conversationId: string): Promise<void> {
  const { rows } = await database.query("SELECT 1 FROM rebuilds");
  if (rows.length === 0) return;
  await inTransaction(database, async (client) => {
    await client.query("SELECT pg_advisory_xact_lock($1)", [pageLock]);
    const still = await client.query("SELECT 1 FROM rebuilds");
    if (still.rows.length === 0) return;
    await eraseRows(client, conversationId, rebuildSchema);
    await client.query(`UPDATE ${rebuildSchema}.conversations SET title = '' WHERE id = $1`, [
      conversationId,
    ]);
  });
}
