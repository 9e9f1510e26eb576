import type { Logger } from "@aws-lambda-powertools/logger";
import { Pool } from "pg";
import * as z from "zod";
import { provider } from "./provider.ts";
import { failureForLog } from "./request-log.ts";

export const database = provider(
  ["database"],
  z.object({ DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }) }),
  ({ DATABASE_URL }, logger) => ({ database: lazyDatabase(DATABASE_URL, logger) }),
);

/** A pool that dials when it is needed, and gives up within seconds. */
export function lazyDatabase(url: string, logger: Logger): Pool {
  const pool = new Pool({
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
