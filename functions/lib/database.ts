import type { Logger } from "@aws-lambda-powertools/logger";
import type { Pool } from "pg";
import * as z from "zod";
import { provider } from "./provider.ts";
import { failureForLog } from "./request-log.ts";

/** What handlers do with PostgreSQL. */
export type Database = Pick<Pool, "query" | "connect" | "end">;

export const database = provider(
  ["database"],
  z.object({ DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }) }),
  ({ DATABASE_URL }, logger) => ({ database: lazyDatabase(DATABASE_URL, logger) }),
);

/**
 * A pool that is loaded and dials when it is needed, and gives up within seconds. The client is a seventh of
 * a bundle, and most of what `chat` and `cancel` are asked needs no row.
 */
export function lazyDatabase(url: string, logger: Logger): Database {
  let opening: Promise<Pool> | undefined;
  const pool = () => {
    opening ??= openPool(url, logger);
    return opening;
  };
  const query = async (...args: Parameters<Pool["query"]>) => (await pool()).query(...args);
  const connect = async () => (await pool()).connect();
  return {
    query: query as Pool["query"],
    connect: connect as Pool["connect"],
    end: async () => (await opening)?.end(),
  };
}

async function openPool(url: string, logger: Logger): Promise<Pool> {
  const { Pool: PgPool } = await import("pg");
  const pool = new PgPool({
    connectionString: url,
    max: 5,
    connectionTimeoutMillis: 3_000,
    idleTimeoutMillis: 30_000,
    query_timeout: 10_000,
    keepAlive: true,
  });
  // An idle connection that breaks is an event of the pool, which would end the process unheard.
  pool.on("error", (error) => logger.warn("PostgreSQL is away", { failure: failureForLog(error) }));
  return pool;
}
