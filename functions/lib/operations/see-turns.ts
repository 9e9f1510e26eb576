import * as z from "zod";
import { RedisBatch } from "../../../events/redis-batch.ts";
import { turnKey } from "../../../events/redis-keys.ts";
import { timingsSchema } from "../../../events/turn-events.ts";
import type { ObservedData, SeenTurn, ViewQuestion } from "../../../events/views.ts";
import { cursorParameters, cursorSchema, pageOf } from "../history/cursor.ts";
import { refusalOf } from "../refusals.ts";
import type { OperatorDeps, Viewer } from "./operator.ts";

const ms = z.date().transform((date) => date.getTime());

const rowSchema = z
  .object({
    id: z.string(),
    tenant_id: z.string(),
    conversation_id: z.string(),
    model: z.string(),
    revision: z.string(),
    status: z.enum(["requested", "running", "completed", "cancelled", "failed"]),
    group_id: z.string().nullable(),
    epoch: z.coerce.number(),
    requested_at: ms,
    started_at: ms.nullable(),
    ended_at: ms.nullable(),
    timings: timingsSchema.nullable(),
    prompt_tokens: z.int().nullable(),
    completion_tokens: z.int().nullable(),
    error_code: z.string().nullable(),
  })
  .transform((row): SeenTurn => {
    const { prompt_tokens: promptTokens, completion_tokens: completionTokens } = row;
    return {
      turnId: row.id,
      tenantId: row.tenant_id,
      conversationId: row.conversation_id,
      ...{ model: row.model, revision: row.revision, status: row.status },
      ...{ groupId: row.group_id, epoch: row.epoch },
      ...{ requestedAt: row.requested_at, startedAt: row.started_at, endedAt: row.ended_at },
      timings: row.timings,
      usage:
        promptTokens === null || completionTokens === null
          ? null
          : { promptTokens, completionTokens },
      tokens: completionTokens,
      errorCode: row.error_code,
    };
  });

const statuses = {
  open: ["requested", "running"],
  completed: ["completed"],
  cancelled: ["cancelled"],
  failed: ["failed"],
};

const cursorFieldSchema = z.object({ before: cursorSchema.optional() });

/**
 * A page of turns as the projection tells them, and of those that run how far they are.
 * @throws AxonError invalid_field for a cursor that is none.
 */
export async function seeTurns(
  { database, redis }: Pick<OperatorDeps, "database" | "redis">,
  question: Extract<ViewQuestion, { view: "turns" }>,
  { tenantId }: Viewer,
): Promise<ObservedData["turns"]> {
  const { status, revision = null, model = null, limit } = question;
  const cursor = cursorFieldSchema.safeParse({ before: question.before });
  if (!cursor.success) throw refusalOf(cursor.error);
  const { before } = cursor.data;
  const { rows } = await database.query(
    `SELECT * FROM turns
     WHERE ($1::text IS NULL OR tenant_id = $1)
       AND ($2::text[] IS NULL OR status = ANY($2))
       AND ($3::text IS NULL OR revision = $3)
       AND ($4::text IS NULL OR model = $4)
       AND ($5::timestamptz IS NULL OR (requested_at, id) < ($5, $6))
     ORDER BY requested_at DESC, id DESC
     LIMIT $7`,
    [
      ...[tenantId ?? null, status === undefined ? null : statuses[status], revision, model],
      ...[...cursorParameters(before), limit + 1],
    ],
  );
  const found = z.array(rowSchema).parse(rows);
  const { page, next } = pageOf(found, limit, (turn) => [turn.requestedAt, turn.turnId]);
  return { turns: await withTokens(redis, page), next };
}

/** Notes how far each open turn is, as the token stream knows it. */
async function withTokens(redis: OperatorDeps["redis"], turns: SeenTurn[]): Promise<SeenTurn[]> {
  const open = turns.filter(({ endedAt }) => endedAt === null);
  if (open.length === 0) return turns;
  const batch = new RedisBatch(redis);
  for (const { turnId } of open) {
    const key = turnKey(turnId);
    batch.add(key, (pipeline) => pipeline.hget(key, "lastSeq"));
  }
  const replies = z.array(z.string().nullable()).parse(await batch.exec());
  const soFar = new Map(open.map(({ turnId }, i) => [turnId, replies[i] ?? null]));
  return turns.map((turn) => {
    const tokens = soFar.get(turn.turnId);
    return tokens === undefined || tokens === null ? turn : { ...turn, tokens: Number(tokens) };
  });
}
