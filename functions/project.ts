import { type TableStreamHandler, tableStreamHandler } from "./lib/batches.ts";
import { refreshContext } from "./lib/context.ts";
import type { Deps } from "./lib/deps.ts";
import { tell } from "./lib/projection.ts";

/** Folds the log into the history in PostgreSQL, and warms the context of conversations that moved. */
export function project(deps: Deps): TableStreamHandler {
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
