import type { Pool } from "pg";
import * as z from "zod";
import { idSchema } from "../../events/frames.ts";
import { type Timings, timingsSchema, type Usage } from "../../events/turn-events.ts";
import { refusalOf } from "./refusals.ts";

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

/** A place in the list, between two conversations: base64url of [updatedAt in ms, id]. */
const cursorSchema = z
  .base64url({ message: "is no cursor of this list" })
  .transform((text, context): unknown => {
    try {
      return JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
    } catch {
      context.addIssue({ code: "custom", message: "is no cursor of this list" });
      return z.NEVER;
    }
  })
  .pipe(z.tuple([z.int().min(0).max(8.64e15), idSchema], { message: "is no cursor of this list" }));

const pageQuerySchema = z.object({
  limit: z.coerce.number().int().min(1).max(200).default(50),
  before: cursorSchema.optional(),
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
 * A page of a tenant's conversations, the one with the newest turn first. `next` is the cursor of the
 * next page, or null on the last.
 * @throws AxonError invalid_field
 */
export async function conversationPage(
  database: Pool,
  tenantId: string,
  query: Record<string, string | undefined>,
): Promise<{ conversations: ConversationSummary[]; next: string | null }> {
  const parsed = pageQuerySchema.safeParse(query);
  if (!parsed.success) throw refusalOf(parsed.error);
  const { limit, before } = parsed.data;
  const { rows } = await database.query(
    `SELECT id, title, turns, created_at, updated_at FROM conversations
     WHERE tenant_id = $1 AND ($2::timestamptz IS NULL OR (updated_at, id) < ($2, $3))
     ORDER BY updated_at DESC, id DESC
     LIMIT $4`,
    [
      ...[tenantId, before === undefined ? null : new Date(before[0]), before?.[1] ?? ""],
      // One more than asked for tells whether there is a next page.
      limit + 1,
    ],
  );
  const found = z.array(summaryRowSchema).parse(rows);
  const conversations = found.slice(0, limit);
  const last = conversations.at(-1);
  const next = found.length > limit && last !== undefined ? cursorAfter(last) : null;
  return { conversations, next };
}

function cursorAfter({ updatedAt, id }: ConversationSummary): string {
  return Buffer.from(JSON.stringify([updatedAt, id])).toString("base64url");
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
  database: Pool,
  tenantId: string,
  id: string,
): Promise<(Omit<ConversationSummary, "turns"> & { turns: TurnRecord[] }) | undefined> {
  const { rows } = await database.query(
    `SELECT id, title, turns, created_at, updated_at FROM conversations
     WHERE id = $1 AND tenant_id = $2`,
    [id, tenantId],
  );
  const [conversation] = z.array(summaryRowSchema).parse(rows);
  if (conversation === undefined) return undefined;
  const turns = await database.query(
    `SELECT t.*, place.ordinal, prompt.content AS prompt, answer.content AS answer
     FROM conversation_turns place
     JOIN turns t ON t.id = place.turn_id
     JOIN messages prompt ON prompt.turn_id = t.id AND prompt.role = 'user'
     LEFT JOIN messages answer ON answer.turn_id = t.id AND answer.role = 'assistant'
     WHERE place.conversation_id = $1
     ORDER BY place.ordinal`,
    [id],
  );
  return { ...conversation, turns: z.array(turnRowSchema).parse(turns.rows) };
}
