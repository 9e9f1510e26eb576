import * as z from "zod";
import { type Commit, conversationStream, turnStream } from "../../../events/event-log.ts";
import { timeOfPosition } from "../../../events/ids.ts";
import type { Notice } from "../../../events/observations.ts";
import { noticeChannel, observerMember, observersKey } from "../../../events/redis-keys.ts";
import type { Deps } from "../deps.ts";

/**
 * Who observes is told when the log has grown. `observe` notes the connection here for a minute; `project` says
 * what it has told PostgreSQL, so that whoever asks anew finds it; the relays carry it to the connections.
 */

/** A connection hears of the log for this long after it has last observed something. */
const observingMs = 60_000;

export async function noteObserver(
  { redis, now }: Pick<Deps, "redis" | "now">,
  connectionId: string,
  tenantId: string,
): Promise<void> {
  const at = now();
  await redis
    .pipeline()
    .zadd(observersKey, at, observerMember(connectionId, tenantId))
    .zremrangebyscore(observersKey, "-inf", at - observingMs)
    .pexpire(observersKey, 2 * observingMs)
    .exec();
}

/** For so long it is remembered whether anybody observes: where nobody does, nothing is said. */
const lookEveryMs = 1_000;

/** @returns what is called with each commit that was told. */
export function noticeBoard({
  redis,
  database,
}: Pick<Deps, "redis" | "database">): (commit: Commit) => Promise<void> {
  let looked = { at: Number.NEGATIVE_INFINITY, isObserved: false };

  async function isObserved(): Promise<boolean> {
    const at = performance.now();
    if (at - looked.at > lookEveryMs) {
      const isAnyone = (await redis.exists(observersKey)) === 1;
      looked = { at, isObserved: isAnyone };
    }
    return looked.isObserved;
  }

  return async (commit) => {
    if (!(await isObserved())) return;
    const { stream, version, position, events } = commit;
    const notice: Notice = {
      tenantId: await tenantOf({ database }, commit),
      change: {
        ...{ stream, version, position, at: timeOfPosition(position) },
        types: events.map(({ type }) => type),
      },
    };
    await redis.publish(noticeChannel, JSON.stringify(notice));
  };
}

const tenantSchema = z.tuple([z.object({ tenant_id: z.string() })]);

/** Whose the stream is; null for one of the whole deployment. */
async function tenantOf(
  { database }: Pick<Deps, "database">,
  { stream }: Commit,
): Promise<string | null> {
  const table = [
    { prefix: turnStream(""), sql: "SELECT tenant_id FROM turns WHERE id = $1" },
    { prefix: conversationStream(""), sql: "SELECT tenant_id FROM conversations WHERE id = $1" },
  ].find(({ prefix }) => stream.startsWith(prefix));
  if (table === undefined) return null;
  const { rows } = await database.query(table.sql, [stream.slice(table.prefix.length)]);
  return tenantSchema.parse(rows)[0].tenant_id;
}
