import type { Pool, PoolClient } from "pg";
import * as z from "zod";
import type { ConversationEvent } from "../../events/conversation-events.ts";
import {
  type Commit,
  conversationStream,
  type EventLog,
  rolloutStream,
  turnStream,
} from "../../events/event-log.ts";
import type { TurnEvent } from "../../events/turn-events.ts";
import type { Deps } from "./deps.ts";
import { isConversationEvent, isTurnEvent } from "./streams.ts";
import { inTransaction } from "./transaction.ts";

/** Groups and rollouts are read from the log itself. Only which models have had any is noted. */
function hasTables({ stream }: Commit): boolean {
  return stream.startsWith(turnStream("")) || stream.startsWith(conversationStream(""));
}

async function tellRollout(database: Pool, { stream, version }: Commit): Promise<void> {
  await database.query(
    `INSERT INTO rollouts (model, log_version) VALUES ($1, $2)
     ON CONFLICT (model) DO UPDATE SET log_version = greatest(rollouts.log_version, $2)`,
    [stream.slice(rolloutStream("").length), version],
  );
}

/**
 * Writes a commit to the history tables, in one transaction. A commit that is there already changes
 * nothing; for one that comes before its predecessors these are read from the log. So commits may
 * come twice and in any order.
 * @returns the conversation in which a turn has ended by this, if one has.
 */
export async function tell(
  { database, log }: Pick<Deps, "database" | "log">,
  commit: Commit,
): Promise<string | undefined> {
  if (commit.stream.startsWith(rolloutStream(""))) await tellRollout(database, commit);
  if (!hasTables(commit)) return undefined;
  return inTransaction(database, async (client) => {
    // The same commit may be in two hands, and of a new stream there is no row yet that could be locked.
    await client.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [commit.stream]);
    const told = await toldVersion(client, commit.stream);
    if (commit.version <= told) return undefined;
    const isNext = commit.version === told + 1;
    const commits = isNext ? [commit] : await missing(log, commit.stream, told);
    let endedIn: string | undefined;
    for (const { version, events } of commits) {
      for (const event of events) {
        if (isConversationEvent(event)) await tellConversation(client, event, version);
        else if (isTurnEvent(event)) {
          endedIn = (await tellTurn(client, event, version)) ?? endedIn;
        }
      }
    }
    return endedIn;
  });
}

async function missing(log: EventLog, stream: string, told: number): Promise<Commit[]> {
  return (await log.read(stream)).filter(({ version }) => version > told);
}

const versionSchema = z.array(z.object({ log_version: z.int() })).max(1);

/** The version up to which the tables know the stream; 0 when they know nothing of it. */
async function toldVersion(client: PoolClient, stream: string): Promise<number> {
  const ofTurn = stream.startsWith(turnStream(""));
  const id = stream.slice((ofTurn ? turnStream("") : conversationStream("")).length);
  const table = ofTurn ? "turns" : "conversations";
  const { rows } = await client.query(`SELECT log_version FROM ${table} WHERE id = $1`, [id]);
  return versionSchema.parse(rows)[0]?.log_version ?? 0;
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
        `INSERT INTO conversations (id, tenant_id, title, turns, created_at, updated_at, log_version)
         VALUES ($1, $2, $3, 0, $4, $4, $5)`,
        [id, event.tenantId, storable(event.title), time(at), version],
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
  }
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
      await addMessage(client, id, "user", event.prompt, at);
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
  await addMessage(client, turnId, "assistant", text, at);
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
