import * as z from "zod";
import { type ChatMessage, chatMessageSchema, messageBody } from "../../../events/jobs.ts";
import { contextKey } from "../../../events/redis-keys.ts";
import type { Deps } from "../deps.ts";
import { isOutage } from "../failures.ts";
import { contextTtlSeconds } from "../lifetimes.ts";
import { json } from "../provider.ts";
import { failureForLog } from "../request-log.ts";
import { messagesOf, type PastTurn, pastTurn } from "./past-turns.ts";

/**
 * What a model is told of the conversation before the prompt. It is found in three places, the
 * nearest first: the cache in Redis, PostgreSQL, the turns' own logs and token streams. What an ended
 * turn said never changes; so a stale cache or a slow projection is incomplete, never wrong, and what
 * they lack is looked up turn by turn.
 */
export interface ConversationContext {
  /** One element for each ended turn, oldest first; the oldest may be left out. */
  exchanges: ChatMessage[][];
  /** How the latest turn stands, when there is one. */
  latest: { turnId: string; status: PastTurn["status"] } | undefined;
  /**
   * A turn that has not ended, as far as can be told: what it will have said is missing. It may have ended
   * for the user, where Redis has lost the end and the report is still on its way.
   */
  runningTurnId: string | undefined;
}

/** Without a database what the cache lacks is read from the log. */
export type ContextDeps = Pick<Deps, "log" | "redis" | "logger"> & Partial<Pick<Deps, "database">>;

/** UTF-8 bytes of JSON that prompt and context may have in a job, of the 256 KB that SQS takes. */
export const contextBytes = 190_000;

/** The projection is asked for so many turns; older ones would hardly fit. */
const mostTurns = 100;

const cacheJson = json.pipe(
  z.array(z.strictObject({ turnId: z.string(), messages: z.array(chatMessageSchema) })),
);
type Known = Map<string, ChatMessage[]>;

/** The context of the turn that comes after `turnIds`, which are oldest first. */
export async function contextAfter(
  deps: ContextDeps,
  conversationId: string,
  turnIds: readonly string[],
): Promise<ConversationContext> {
  const newestFirst = turnIds.slice(-mostTurns).reverse();
  const [latestId] = newestFirst;
  if (latestId === undefined) return { exchanges: [], latest: undefined, runningTurnId: undefined };

  const cached = await cachedTurns(deps, conversationId);
  const known = new Map(cached);
  const used: Known = new Map();
  let askedDatabase = false;
  let latest: ConversationContext["latest"];
  let runningTurnId: string | undefined;
  const exchanges: ChatMessage[][] = [];
  let bytes = 0;
  for (const turnId of newestFirst) {
    // The latest turn is often ahead of the projection; the older ones are read there all at once.
    if (!known.has(turnId) && turnId !== latestId && !askedDatabase) {
      askedDatabase = true;
      for (const [id, messages] of await projectedTurns(deps, conversationId))
        known.set(id, messages);
    }
    const said = known.get(turnId);
    const turn: PastTurn =
      said === undefined ? await pastTurn(deps, turnId) : { status: "ended", messages: said };
    latest ??= { turnId, status: turn.status };
    if (turn.status === "running") runningTurnId ??= turnId;
    if (turn.status !== "ended") continue;
    used.set(turnId, turn.messages);
    bytes += jsonBytes(turn.messages);
    if (bytes > contextBytes) break;
    exchanges.unshift(turn.messages);
  }
  // Only what fits is kept, so the cache does not grow with the conversation.
  if ([...used.keys()].some((turnId) => !cached.has(turnId))) {
    await cache(deps, conversationId, used);
  }
  return { exchanges, latest, runningTurnId };
}

async function cachedTurns({ redis }: Pick<Deps, "redis">, conversationId: string): Promise<Known> {
  const text = await redis.get(contextKey(conversationId));
  if (text === null) return new Map();
  // What cannot be read is as good as nothing: the context is found elsewhere, and the cache written anew.
  const { data: turns = [] } = cacheJson.safeParse(text);
  return new Map(turns.map(({ turnId, messages }) => [turnId, messages]));
}

async function cache(
  { redis }: Pick<Deps, "redis">,
  conversationId: string,
  known: Known,
): Promise<void> {
  const turns = [...known].map(([turnId, messages]) => ({ turnId, messages }));
  await redis.set(contextKey(conversationId), JSON.stringify(turns), "EX", contextTtlSeconds);
}

/** Fills the cache from the projection, once that has moved on. */
export async function refreshContext(
  deps: Pick<Deps, "redis" | "database">,
  conversationId: string,
): Promise<void> {
  await cache(deps, conversationId, await endedTurns(deps, conversationId));
}

/** While PostgreSQL is away the log answers in its place, more slowly. */
async function projectedTurns(deps: ContextDeps, conversationId: string): Promise<Known> {
  const { database } = deps;
  if (database === undefined) return new Map();
  try {
    return await endedTurns({ database }, conversationId);
  } catch (error) {
    if (!isOutage(error)) throw error;
    deps.logger.warn("PostgreSQL is away; the context is read from the log", {
      conversationId,
      failure: failureForLog(error),
    });
    return new Map();
  }
}

const rowSchema = z.object({
  turn_id: z.string(),
  status: z.string(),
  prompt: z.string(),
  answer: z.string().nullable(),
});

async function endedTurns(
  { database }: Pick<Deps, "database">,
  conversationId: string,
): Promise<Known> {
  const { rows } = await database.query(
    `SELECT t.id AS turn_id, t.status, prompt.content AS prompt, answer.content AS answer
     FROM turns t
     JOIN messages prompt ON prompt.turn_id = t.id AND prompt.role = 'user'
     LEFT JOIN messages answer ON answer.turn_id = t.id AND answer.role = 'assistant'
     WHERE t.conversation_id = $1 AND t.status IN ('completed', 'cancelled', 'failed')
     ORDER BY t.requested_at DESC
     LIMIT $2`,
    [conversationId, mostTurns],
  );
  const turns = z.array(rowSchema).parse(rows);
  return new Map(
    turns.map(({ turn_id, status, prompt, answer }) => [
      turn_id,
      messagesOf(prompt, answer ?? "", status),
    ]),
  );
}

export const jsonBytes = (value: unknown): number => Buffer.byteLength(messageBody(value));
