import * as z from "zod";
import {
  apiKeyStream,
  type Commit,
  conversationStream,
  turnStream,
} from "../../../events/event-log.ts";
import type { Deps } from "../deps.ts";

/** The tenant that a stream belongs to, as its first commit says; undefined for one of no tenant. */
export function tenantIn(commits: readonly Commit[]): string | undefined {
  for (const event of commits.flatMap(({ events }) => events)) {
    if ("tenantId" in event) return event.tenantId;
  }
  return undefined;
}

/** Whether the stream is one tenant's, and not of the whole deployment. */
const isPrivate = (stream: string): boolean =>
  [turnStream(""), conversationStream(""), apiKeyStream("")].some((kind) =>
    stream.startsWith(kind),
  );

const idsSchema = z.array(z.object({ id: z.string() }));

/**
 * The commits among these that a tenant may see: those of its own turns, conversations and keys, and of all groups
 * and rollouts. Whose a stream is PostgreSQL knows; of what it has not been told yet, the stream itself.
 */
export async function visibleTo(
  { database, log }: Pick<Deps, "database" | "log">,
  tenantId: string,
  commits: readonly Commit[],
): Promise<Commit[]> {
  const own = new Set<string>();
  const others = new Set<string>();
  const streams = new Set(commits.map(({ stream }) => stream).filter(isPrivate));
  for (const commit of commits) {
    const owner = tenantIn([commit]);
    if (owner !== undefined) (owner === tenantId ? own : others).add(commit.stream);
  }
  const unknown = [...streams].filter((stream) => !own.has(stream) && !others.has(stream));
  for (const [stream, owner] of await ownersOf(database, unknown)) {
    (owner === tenantId ? own : others).add(stream);
  }
  for (const stream of unknown) {
    if (own.has(stream) || others.has(stream)) continue;
    if (tenantIn(await log.read(stream)) === tenantId) own.add(stream);
  }
  return commits.filter(({ stream }) => !isPrivate(stream) || own.has(stream));
}

const ownersSchema = z.array(z.object({ stream: z.string(), tenant_id: z.string() }));

async function ownersOf(
  database: Deps["database"],
  streams: readonly string[],
): Promise<Map<string, string>> {
  if (streams.length === 0) return new Map();
  const { rows } = await database.query(
    `SELECT 'turn/' || id AS stream, tenant_id FROM turns WHERE 'turn/' || id = ANY($1::text[]) AND id = ANY($2::text[])
     UNION ALL
     SELECT 'conversation/' || id, tenant_id FROM conversations
       WHERE 'conversation/' || id = ANY($1::text[]) AND id = ANY($2::text[])`,
    [streams, streams.map((stream) => stream.slice(stream.indexOf("/") + 1))],
  );
  return new Map(ownersSchema.parse(rows).map((row) => [row.stream, row.tenant_id]));
}

/** Of these turns those that are the tenant's. */
export async function turnsOf(
  database: Deps["database"],
  tenantId: string,
  turnIds: readonly string[],
): Promise<Set<string>> {
  if (turnIds.length === 0) return new Set();
  const { rows } = await database.query(
    "SELECT id FROM turns WHERE tenant_id = $1 AND id = ANY($2::text[])",
    [tenantId, turnIds],
  );
  return new Set(idsSchema.parse(rows).map(({ id }) => id));
}
