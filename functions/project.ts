import { type TableStreamHandler, tableStreamHandler } from "./lib/batches.ts";
import { refreshContext } from "./lib/context.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { tell } from "./lib/projection.ts";
import { redis } from "./lib/redis.ts";

/** Folds the log into the history in PostgreSQL, and warms the context of conversations that moved. */
export function project(
  deps: Pick<Deps, "database" | "log" | "redis" | "logger">,
): TableStreamHandler {
  return tableStreamHandler(deps, async (commit, log) => {
    const endedIn = await tell(deps, commit);
    if (endedIn === undefined) return;
    log.add({ conversationId: endedIn });
    try {
      await refreshContext(deps, endedIn);
    } catch (error) {
      // The history is written, which is what counts. A stale cache is only slower.
      log.warn("the context was not refreshed", { error });
    }
  });
}

export const handler = lambda(project, [database, eventLog, redis]);
