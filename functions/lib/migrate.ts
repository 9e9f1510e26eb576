import { type Migration, migrations } from "../migrations/migrations.ts";
import type { Database } from "./database.ts";
import { inTransaction } from "./transaction.ts";

/** Any number will do, as long as nothing else in the database locks the same one. */
const lockId = 7_190_001;

/**
 * Brings the database to the newest schema: each migration once, in its order, each in a transaction with
 * the note that it was applied. Several processes may do it at the same time; one works and the others
 * wait. One that is killed on the way leaves whole steps behind, and the next goes on.
 * @returns the names of those that it has applied.
 */
export async function migrate(
  pool: Database,
  steps: readonly Migration[] = migrations,
): Promise<string[]> {
  await inTransaction(pool, async (client) => {
    await client.query("SELECT pg_advisory_xact_lock($1)", [lockId]);
    await client.query(
      `CREATE TABLE IF NOT EXISTS migrations (
         name text PRIMARY KEY,
         applied_at timestamptz NOT NULL DEFAULT now()
       )`,
    );
  });
  const applied: string[] = [];
  for (const { name, sql } of steps) {
    await inTransaction(pool, async (client) => {
      await client.query("SELECT pg_advisory_xact_lock($1)", [lockId]);
      const known = await client.query("SELECT 1 FROM migrations WHERE name = $1", [name]);
      if (known.rows.length > 0) return;
      await client.query(sql);
      await client.query("INSERT INTO migrations (name) VALUES ($1)", [name]);
      applied.push(name);
    });
  }
  return applied;
}
