import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Pool } from "pg";
import { inTransaction } from "./transaction.ts";

const folder = join(import.meta.dirname, "..", "migrations");

/** Any number will do, as long as nothing else in the database locks the same one. */
const lockId = 7_190_001;

/**
 * Brings the database to the newest schema: each file of functions/migrations once, in the order of
 * their numbers, each in a transaction with the note that it was applied. Several processes may do it
 * at the same time; one works and the others wait.
 * @returns the names of the files that it has applied.
 */
export async function migrate(pool: Pool): Promise<string[]> {
  const files = (await readdir(folder)).filter((name) => /^\d{4}_\w+\.sql$/.test(name)).sort();
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
  for (const name of files) {
    const sql = await readFile(join(folder, name), "utf8");
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
