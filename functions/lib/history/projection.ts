import type { PoolClient } from "pg";
import * as z from "zod";
import type { ConversationEvent } from "../../../events/conversation-events.ts";
import {
  type Commit,
  conversationStream,
  type EventLog,
  rolloutStream,
  turnStream,
} from "../../../events/event-log.ts";
import { erase, hasWords } from "../../../events/sealing.ts";
import type { TurnEvent } from "../../../events/turn-events.ts";
import type { Database } from "../database.ts";
import type { Deps } from "../deps.ts";
import { isConversationEvent, isTurnEvent } from "../streams.ts";
import { inTransaction } from "../transaction.ts";

/** Groups and rollouts are read from the log itself. Only which models have had any is noted. */
function hasTables({ stream }: Commit): boolean {
  return stream.startsWith(turnStream("")) || stream.startsWith(conversationStream(""));
}

async function tellRollout(
  database: Database | PoolClient,
  { stream, version }: Commit,
): Promise<void> {
  await database.query(
    `INSERT INTO rollouts (model, log_version) VALUES ($1, $2)
     ON CONFLICT (model) DO UPDATE SET log_version = greatest(rollouts.log_version, $2)`,
    [stream.slice(rolloutStream("").length), version],
  );
}

/** Whoever writes to the tables shares this lock; who puts others in their place has it alone. */
export const tablesLock = 7_190_002;

/** Locks of streams and of other things never meet: their numbers come from names with a prefix. */
const lockOf = (parameter: string) => `hashtextextended(${parameter}, 0)`;

/**
 * Writes a commit to the history tables, in one transaction. A commit that is there already changes
 * nothing; for one that comes before its predecessors these are read from the log. So commits may
 * come twice and in any order.
 * @param forget drops what else is kept of a turn whose conversation was erased before it has ended; it is
 *   called before the end is written, so whoever dies in between is followed by one who calls it again.
 * @returns the conversation in which a turn has ended by this, if one has.
 */
export async function tell(
  { database, log, openCommits }: Pick<Deps, "database" | "log" | "openCommits">,
  commit: Commit,
  forget?: (turnId: string) => Promise<void>,
): Promise<string | undefined> {
  if (commit.stream.startsWith(rolloutStream(""))) await tellRollout(database, commit);
  if (!hasTables(commit)) return undefined;
  const [opened = commit] = await openCommits([commit]);
  return inTransaction(database, async (client) => {
    // The same commit may be in two hands, and of a new stream there is no row yet that could be locked.
    await client.query(
      `SELECT pg_advisory_xact_lock_shared($2), pg_advisory_xact_lock(${lockOf("$1")})`,
      [commit.stream, tablesLock],
    );
    return tellOpened(client, { log, isErased: isErasedNow, forget }, opened);
  });
}

/** What telling a commit needs to know beside it. */
export interface Telling {
  log: EventLog;
  /** Whether the words of a conversation are to be left out, whatever the log still shows of them. */
  isErased(client: PoolClient, conversationId: string): Promise<boolean>;
  /** Called with a turn that has ended after its conversation was erased. */
  forget?: ((turnId: string) => Promise<void>) | undefined;
}

/**
 * A key that is still in a cache opens words whose conversation the tables know as erased. The lock is
 * the conversation's own stream's: its erasure is told before this or after, and never beside it.
 */
async function isErasedNow(client: PoolClient, conversationId: string): Promise<boolean> {
  await client.query(`SELECT pg_advisory_xact_lock_shared(${lockOf("$1")})`, [
    conversationStream(conversationId),
  ]);
  const { rows } = await client.query(
    "SELECT 1 FROM conversations WHERE id = $1 AND erased_at IS NOT NULL",
    [conversationId],
  );
  return rows.length > 0;
}

/** Writes a commit, with its words, to the tables that the client's search path leads to. */
export async function tellOpened(
  client: PoolClient,
  telling: Telling,
  commit: Commit,
): Promise<string | undefined> {
  if (commit.stream.startsWith(rolloutStream(""))) await tellRollout(client, commit);
  if (!hasTables(commit)) return undefined;
  const told = await toldVersion(client, commit.stream);
  if (commit.version <= told.version) return undefined;
  const isNext = commit.version === told.version + 1;
  const commits = isNext ? [commit] : await missing(telling.log, commit.stream, told.version);
  // Before the first row is written: who erases holds the conversation, and goes on to the rows of its turns.
  const isHidden = await hidesWords(client, telling, commits, told.conversationId);
  let endedIn: string | undefined;
  for (const { version, events } of commits) {
    for (const event of events) {
      if (isConversationEvent(event)) await tellConversation(client, event, version);
      if (!isTurnEvent(event)) continue;
      const isErased = isHidden && hasWords(event);
      if (isErased && event.type !== "TurnRequested") await telling.forget?.(event.turnId);
      const shown = isErased ? erase(event) : event;
      if (isTurnEvent(shown)) endedIn = (await tellTurn(client, shown, version)) ?? endedIn;
    }
  }
  return endedIn;
}

/** Whether these commits are of a turn, and have words of it that are to be left out. */
async function hidesWords(
  client: PoolClient,
  telling: Telling,
  commits: readonly Commit[],
  known: string | undefined,
): Promise<boolean> {
  const events = commits.flatMap((commit) => commit.events).filter(isTurnEvent);
  const requested = events.find((event) => event.type === "TurnRequested");
  const conversationId = requested?.conversationId ?? known;
  if (conversationId === undefined || !events.some(hasWords)) return false;
  return telling.isErased(client, conversationId);
}

async function missing(log: EventLog, stream: string, told: number): Promise<Commit[]> {
  return (await log.read(stream)).filter(({ version }) => version > told);
}

const toldSchema = z
  .array(z.object({ log_version: z.int(), conversation_id: z.string().optional() }))
  .max(1);

/** The version up to which the tables know the stream, 0 when they know nothing of it; and a turn's conversation. */
async function toldVersion(
  client: PoolClient,
  stream: string,
): Promise<{ version: number; conversationId: string | undefined }> {
  const ofTurn = stream.startsWith(turnStream(""));
  const id = stream.slice((ofTurn ? turnStream("") : conversationStream("")).length);
  const { rows } = await client.query(
    ofTurn
      ? "SELECT log_version, conversation_id FROM turns WHERE id = $1"
      : "SELECT log_version FROM conversations WHERE id = $1",
    [id],
  );
  const [row] = toldSchema.parse(rows);
  return { version: row?.log_version ?? 0, conversationId: row?.conversation_id };
}

const time = (ms: number): Date => new Date(ms);

/** PostgreSQL's text holds every character but one. */
const storable = (text: string): string => text.replaceAll("\u0000", "\ufffd");

async function tellConversation(
  client: PoolClient,
  event: ConversationEvent,
  version: number,
): Promise<void> {
  const { conversationId: id, at } = event;
  switch (event.type) {
    case "ConversationStarted":
      await client.query(
        `INSERT INTO conversations (id, tenant_id, title, turns, created_at, updated_at, log_version,
           origin)
         VALUES ($1, $2, $3, 0, $4, $4, $5, $6)`,
        [id, event.tenantId, storable(event.title), time(at), version, event.origin ?? null],
      );
      return;
    case "TurnAdded":
      await client.query(
        "INSERT INTO conversation_turns (conversation_id, ordinal, turn_id) VALUES ($1, $2, $3)",
        [id, event.ordinal, event.turnId],
      );
      await client.query(
        "UPDATE conversations SET turns = $2, updated_at = $3, log_version = $4 WHERE id = $1",
        [id, event.ordinal, time(at), version],
      );
      return;
    case "ConversationErased":
      await eraseRows(client, id);
      await client.query(
        "UPDATE conversations SET title = '', erased_at = $2, log_version = $3 WHERE id = $1",
        [id, time(at), version],
      );
  }
}

/**
 * Takes the words out of the rows of a conversation's turns. What they cost and how long they took stays.
 * @param schema where the tables are, when not where the client's search path leads.
 */
export async function eraseRows(
  client: PoolClient,
  conversationId: string,
  schema?: string,
): Promise<void> {
  const table = (name: string) => (schema === undefined ? name : `${schema}.${name}`);
  await client.query(
    `DELETE FROM ${table("messages")} WHERE turn_id IN
       (SELECT id FROM ${table("turns")} WHERE conversation_id = $1)`,
    [conversationId],
  );
  await client.query(
    `UPDATE ${table("turns")} SET sampling = sampling || '{"stop": []}',
       error_message = CASE WHEN error_message IS NULL THEN NULL ELSE '' END
     WHERE conversation_id = $1`,
    [conversationId],
  );
}

/** @returns the turn's conversation, if the event has ended the turn. */
async function tellTurn(
  client: PoolClient,
  event: TurnEvent,
  version: number,
): Promise<string | undefined> {
  const { turnId: id, at } = event;
  switch (event.type) {
    case "TurnRequested":
      await client.query(
        `INSERT INTO turns (id, tenant_id, conversation_id, model, revision, status, sampling,
           correlation_id, requested_at, log_version)
         VALUES ($1, $2, $3, $4, $5, 'requested', $6, $7, $8, $9)`,
        [
          ...[id, event.tenantId, event.conversationId, event.model, event.revision],
          ...[JSON.stringify(event.sampling), event.correlationId, time(at), version],
        ],
      );
      if (event.erased === undefined) await addMessage(client, id, "user", event.prompt, at);
      return undefined;
    case "TurnStarted":
    case "TurnTakenOver":
      await client.query(
        `UPDATE turns SET status = 'running', epoch = $2, group_id = $3, leader_id = $4,
           started_at = coalesce(started_at, $5), log_version = $6
         WHERE id = $1`,
        [id, event.epoch, event.groupId, event.leaderId, time(at), version],
      );
      return undefined;
    case "TurnCancelRequested":
      await client.query(
        "UPDATE turns SET cancel_requested = true, log_version = $2 WHERE id = $1",
        [id, version],
      );
      return undefined;
    case "TurnCompleted":
      return endTurn(client, event, version, { status: "completed", reason: event.finishReason });
    case "TurnCancelled":
      return endTurn(client, event, version, { status: "cancelled", reason: "cancelled" });
    case "TurnFailed":
      return endTurn(client, event, version, { status: "failed", reason: "failed" });
  }
}

const endedSchema = z.array(z.object({ conversation_id: z.string() }));

type Ending = Extract<TurnEvent, { type: "TurnCompleted" | "TurnCancelled" | "TurnFailed" }>;

async function endTurn(
  client: PoolClient,
  event: Ending,
  version: number,
  { status, reason }: { status: string; reason: string },
): Promise<string | undefined> {
  const { turnId, at, epoch, usage, text } = event;
  const failed = event.type === "TurnFailed";
  const { rows } = await client.query(
    `UPDATE turns SET status = $2, finish_reason = $3, epoch = $4, prompt_tokens = $5,
       completion_tokens = $6, timings = $7, error_code = $8, error_message = $9, ended_at = $10,
       log_version = $11
     WHERE id = $1
     RETURNING conversation_id`,
    [
      ...[turnId, status, reason, epoch, usage.promptTokens, usage.completionTokens],
      failed ? null : JSON.stringify(event.timings),
      ...(failed ? [storable(event.code), storable(event.message)] : [null, null]),
      ...[time(at), version],
    ],
  );
  if (event.erased === undefined) await addMessage(client, turnId, "assistant", text, at);
  return endedSchema.parse(rows)[0]?.conversation_id;
}

async function addMessage(
  client: PoolClient,
  turnId: string,
  role: "user" | "assistant",
  content: string,
  at: number,
): Promise<void> {
  await client.query(
    "INSERT INTO messages (turn_id, role, content, created_at) VALUES ($1, $2, $3, $4)",
    [turnId, role, storable(content), time(at)],
  );
}
