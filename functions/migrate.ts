import type { Context } from "aws-lambda";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { lambda } from "./lib/lambda.ts";
import { migrate as migrateDatabase } from "./lib/migrate.ts";
import { stack } from "./lib/stack.ts";
import { migrations } from "./migrations/migrations.ts";

export interface MigrateResult {
  /** What this run has applied; nothing where the schema was the newest already. */
  applied: string[];
  /** The newest migration that there is. */
  schema: string | undefined;
}

/**
 * Brings the database to the newest schema. Each deployment invokes it once, before the functions that
 * need the schema are updated; what it is invoked with does not matter, and once more does no harm.
 */
export function migrate(
  deps: Pick<Deps, "database" | "logger">,
): (event: unknown, context: Context) => Promise<MigrateResult> {
  return stack<unknown, MigrateResult>(deps, { keysOf: () => ({}) }, async (_event, { log }) => {
    const applied = await migrateDatabase(deps.database);
    const result = { applied, schema: migrations.at(-1)?.name };
    log.info("migrated", result);
    return result;
  });
}

export const handler = lambda(migrate, [database]);
