import * as z from "zod";
import { type Timings, timingsSchema, type Usage } from "../../../events/turn-events.ts";
import type { Database } from "../database.ts";
import { refusalOf } from "../refusals.ts";
import { cursorParameters, cursorSchema, pageOf } from "./cursor.ts";

/** A conversation in a list. Times are Unix time in ms. */
export interface ConversationSummary {
  id: string;
  title: string;
  createdAt: number;
  updatedAt: number;
  /** How many it has. */
  turns: number;
}

/** A turn with what was asked and said. What is not known yet is null. */
export interface TurnRecord {
  id: string;
  ordinal: number;
  model: string;
  revision: string;
  status: string;
  prompt: string;
  answer: string | null;
  finishReason: string | null;
  usage: Usage | null;
  timings: Timings | null;
  requestedAt: number;
  endedAt: number | null;
  error: { code: string; message: string } | null;
}

const ms = z.date().transform((date) => date.getTime());

const pageQuerySchema = z.object({
  limit: z.coerce.number().int().min(1).max(200).default(50),
  before: cursorSchema.optional(),
  /** `api`: those that other programs keep, in place of those of people. */
  origin: z.literal("api").optional(),
});

const summaryRowSchema = z
  .object({ id: z.string(), title: z.string(), turns: z.int(), created_at: ms, updated_at: ms })
  .transform(
    ({ id, title, turns, created_at, updated_at }): ConversationSummary => ({
      ...{ id, title, turns },
      createdAt: created_at,
      updatedAt: updated_at,
    }),
  );

/**
 * A page of a tenant's conversations, the one with the newest turn first. Those that other programs keep
 * are not among them, unless it is them that are asked for. `next` is the cursor of the
 * next page, or null on the last.
 * @throws AxonError invalid_field
 */
export async function conversationPage(
  database: Database,
  tenantId: string,
  query: Record<string, string | undefined>,
): Promise<{ conversations: ConversationSummary[]; next: string | null }> {
  const parsed = pageQuerySchema.safeParse(query);
  if (!parsed.success) throw refusalOf(parsed.error);
  const { limit, before, origin } = parsed.data;
  const { rows } = await database.query(
    `SELECT id, title, turns, created_at, updated_at FROM conversations
     WHERE tenant_id = $1 AND erased_at IS NULL
       AND ($2::timestamptz IS NULL OR (updated_at, id) < ($2, $3))
       AND origin ${origin === undefined ? "IS NULL" : "= 'api'"}
     ORDER BY updated_at DESC, id DESC
     LIMIT $4`,
    [tenantId, ...cursorParameters(before), limit + 1],
  );
  const found = z.array(summaryRowSchema).parse(rows);
  const { page, next } = pageOf(found, limit, ({ updatedAt, id }) => [updatedAt, id]);
  return { conversations: page, next };
}

const turnRowSchema = z
  .object({
    id: z.string(),
    ordinal: z.int(),
    model: z.string(),
    revision: z.string(),
    status: z.string(),
    prompt: z.string(),
    answer: z.string().nullable(),
    finish_reason: z.string().nullable(),
    prompt_tokens: z.int().nullable(),
    completion_tokens: z.int().nullable(),
    timings: timingsSchema.nullable(),
    error_code: z.string().nullable(),
    error_message: z.string().nullable(),
    requested_at: ms,
    ended_at: ms.nullable(),
  })
  .transform((row): TurnRecord => {
    const { id, ordinal, model, revision, status, prompt, answer, timings } = row;
    const { prompt_tokens: promptTokens, completion_tokens: completionTokens } = row;
    const { error_code: code, error_message: message } = row;
    return {
      ...{ id, ordinal, model, revision, status, prompt, answer, timings },
      finishReason: row.finish_reason,
      usage:
        promptTokens === null || completionTokens === null
          ? null
          : { promptTokens, completionTokens },
      requestedAt: row.requested_at,
      endedAt: row.ended_at,
      error: code === null || message === null ? null : { code, message },
    };
  });

/** A tenant's conversation with its turns in order; undefined when the tenant has no such one. */
export async function conversationById(
  database: Database,
  tenantId: string,
  id: string,
): Promise<(Omit<ConversationSummary, "turns"> & { turns: TurnRecord[] }) | undefined> {
  const { rows } = await database.query(
    `SELECT id, title, turns, created_at, updated_at FROM conversations
     WHERE id = $1 AND tenant_id = $2 AND erased_at IS NULL`,
    [id, tenantId],
  );
  const [conversation] = z.array(summaryRowSchema).parse(rows);
  if (conversation === undefined) return undefined;
  return { ...conversation, turns: await turnsAfter(database, id, 0, null) };
}

/** Up to `limit` turns of a conversation (null: all) whose ordinal is above `ordinal`, in order. */
export async function turnsAfter(
  database: Database,
  conversationId: string,
  ordinal: number,
  limit: number | null,
): Promise<TurnRecord[]> {
  const { rows } = await database.query(
    `SELECT t.*, place.ordinal, prompt.content AS prompt, answer.content AS answer
     FROM conversation_turns place
     JOIN turns t ON t.id = place.turn_id
     JOIN messages prompt ON prompt.turn_id = t.id AND prompt.role = 'user'
     LEFT JOIN messages answer ON answer.turn_id = t.id AND answer.role = 'assistant'
     WHERE place.conversation_id = $1 AND place.ordinal > $2
     ORDER BY place.ordinal
     LIMIT $3`,
    [conversationId, ordinal, limit],
  );
  return z.array(turnRowSchema).parse(rows);
}
