import { type Commit, turnStream } from "../events/event-log.ts";
import { atMost } from "./lib/at-most.ts";
import { type TableStreamHandler, tableStreamHandler } from "./lib/batches.ts";
import { endConnections } from "./lib/credentials/key-connections.ts";
import { keyOf, tellApiKey } from "./lib/credentials/key-projection.ts";
import { forgetTurn } from "./lib/data/forget-turn.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { tell } from "./lib/history/projection.ts";
import { lambda } from "./lib/lambda.ts";
import { noticeBoard } from "./lib/operations/observers.ts";
import { redis } from "./lib/redis.ts";
import type { RequestLog } from "./lib/request-log.ts";
import { apiKeys, load } from "./lib/streams.ts";
import { inTurnTrace } from "./lib/turn-span.ts";
import { refreshContext } from "./lib/turns/context.ts";

/**
 * So many streams are told side by side: fewer than the connections that there are. A batch has a hundred of
 * them, and after an outage batch follows batch: those that wait for a connection would not get one in time,
 * fail, and be told all over again, while nothing gets on.
 */
const toldAtOnce = 4;

/**
 * Folds the log into the history in PostgreSQL, ends connections with their API keys, warms the context of
 * conversations that moved, and tells whoever observes that there is something new to be seen.
 */
export function project(
  deps: Pick<Deps, "database" | "log" | "openCommits" | "redis" | "now" | "logger" | "tracing">,
): TableStreamHandler {
  const notice = noticeBoard(deps);
  const inTurn = atMost(toldAtOnce);
  return tableStreamHandler(deps, async (commit, log) => {
    const keyId = keyOf(commit);
    if (keyId !== undefined) return followKey(deps, keyId, commit.version);
    const endedIn = await inTurn(() => tellTraced(deps, commit, log));
    const at = commit.events.at(-1)?.at;
    if (at !== undefined) log.measure("ProjectionLag", Math.max(0, deps.now() - at));
    // Whoever is not told finds it by asking.
    await notice(commit).catch((error: unknown) => log.warn("nobody was told", { error }));
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

/** Connections first: their end does not wait for PostgreSQL. */
async function followKey(
  deps: Pick<Deps, "database" | "log" | "redis" | "now">,
  keyId: string,
  version: number,
): Promise<void> {
  const { state } = await load(deps.log, apiKeys, keyId);
  if (state.status === "none") return;
  await endConnections(deps.redis, state, deps.now());
  await tellApiKey(deps.database, state, version);
}

const prefix = turnStream("");

/** Turns are traced to the row that people read. */
async function tellTraced(
  deps: Pick<Deps, "database" | "log" | "openCommits" | "redis" | "tracing">,
  commit: Commit,
  log: RequestLog,
): Promise<string | undefined> {
  const { stream, events } = commit;
  if (!stream.startsWith(prefix)) return tell(deps, commit);
  const turnId = stream.slice(prefix.length);
  const attributes = {
    "faas.trigger": "datasource",
    "axon.turn.id": turnId,
    "axon.events": events.map(({ type }) => type),
  };
  const start = { name: "project", kind: "consumer", attributes } as const;
  // `report` may have opened the words with a key in its cache, and not have known.
  const forget = (erased: string) => forgetTurn(deps, erased);
  return inTurnTrace(deps, turnId, start, log, () => tell(deps, commit, forget));
}

export const handler = lambda(project, [database, eventLog, redis]);
