import { z } from "zod";
import type { Database } from "../functions/lib/database.ts";
import type { CheckpointStore } from "./log-follower.ts";

const rowsSchema = z.array(z.object({ positions: z.record(z.string(), z.string()) })).max(1);

/**
 * Keeps a follower's positions in PostgreSQL, beside what it projects: a new, empty database makes it
 * start over, and so the history comes back.
 */
export function postgresCheckpoint(database: Database, follower: string): CheckpointStore {
  return {
    async load() {
      // Followers start together, and PostgreSQL does not make the same table twice at once.
      await database.query(
        `SELECT pg_advisory_xact_lock(4242002);
         CREATE TABLE IF NOT EXISTS local_checkpoints (
           follower text PRIMARY KEY,
           positions jsonb NOT NULL
         )`,
      );
      const { rows } = await database.query(
        "SELECT positions FROM local_checkpoints WHERE follower = $1",
        [follower],
      );
      return rowsSchema.parse(rows)[0]?.positions ?? {};
    },
    async save(positions) {
      await database.query(
        `INSERT INTO local_checkpoints (follower, positions) VALUES ($1, $2)
         ON CONFLICT (follower) DO UPDATE SET positions = excluded.positions`,
        [follower, JSON.stringify(positions)],
      );
    },
  };
}
