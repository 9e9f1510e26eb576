import type { PoolClient } from "pg";
import type { Database } from "./database.ts";

/** Runs `work` in a transaction: all of its writes are there in the end, or none. */
export async function inTransaction<T>(
  pool: Database,
  work: (client: PoolClient) => Promise<T>,
): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query("BEGIN");
    const result = await work(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    // A connection that cannot even roll back is of no use to the next one who gets it.
    await client.query("ROLLBACK").catch((failure: Error) => {
      broken = failure;
    });
    throw error;
  } finally {
    client.release(broken);
  }
}
