import * as z from "zod";
import type { ConversationCommand } from "../events/conversation.ts";
import { AxonError } from "../events/errors.ts";
import { idSchema } from "../events/frames.ts";
import { credentials } from "./lib/credentials/authenticate.ts";
import { requireScope } from "./lib/credentials/scopes.ts";
import { exportPage } from "./lib/data/export.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { execute } from "./lib/execute.ts";
import { conversationById, conversationPage } from "./lib/history/history-queries.ts";
import { type HttpHandler, type HttpRequest, httpHandler } from "./lib/http.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { refusalOf } from "./lib/refusals.ts";
import { conversations, load, turns } from "./lib/streams.ts";

type HistoryDeps = Pick<Deps, "authenticate" | "database" | "log" | "models" | "logger" | "now">;
type Route = (deps: HistoryDeps, request: HttpRequest, id: string) => Promise<unknown>;

const conversation = /^\/api\/conversations\/([A-Za-z0-9_-]{1,64})$/;

/** The routes of docs/PROTOCOL.md. A group in a pattern is the id of what is asked for. */
const routes: readonly { method?: "DELETE"; pattern: RegExp; answer: Route }[] = [
  { pattern: /^\/api\/models$/, answer: listModels },
  { pattern: /^\/api\/conversations$/, answer: listConversations },
  { pattern: conversation, answer: showConversation },
  { method: "DELETE", pattern: conversation, answer: eraseConversation },
  { pattern: /^\/api\/export$/, answer: exportHistory },
  { pattern: /^\/api\/turns\/([A-Za-z0-9_-]{1,64})\/events$/, answer: showEvents },
];

/**
 * History over HTTP, for one tenant: to read, to export, and to erase. Conversations are shown as far as the projection has got; a
 * turn's events come from the log itself.
 */
export function history(deps: HistoryDeps): HttpHandler {
  return httpHandler(deps, "history", async (request) => {
    for (const { method = "GET", pattern, answer } of routes) {
      const match = pattern.exec(request.path);
      if (match !== null && request.method === method) return answer(deps, request, match[1] ?? "");
    }
    const known =
      "/api/conversations, /api/conversations/{id}, /api/turns/{id}/events, /api/models, /api/export";
    throw new AxonError(
      "not_found",
      `There is no such route. GET one of: ${known}; or DELETE /api/conversations/{id}.`,
    );
  });
}

async function listModels({ models }: HistoryDeps): Promise<unknown> {
  const shown = models.all().map(({ model, revision, default: isDefault }) => {
    return { model, revision, default: isDefault };
  });
  return { models: shown };
}

async function listConversations(
  { database }: HistoryDeps,
  { query, identity }: HttpRequest,
): Promise<unknown> {
  return conversationPage(database, identity.tenantId, query);
}

async function showConversation(
  { database }: HistoryDeps,
  { identity, log }: HttpRequest,
  id: string,
): Promise<unknown> {
  log.add({ conversationId: id });
  const found = await conversationById(database, identity.tenantId, id);
  if (found !== undefined) return found;
  throw new AxonError("conversation_not_found", `There is no conversation ${id}.`);
}

/** Gone for everybody with the answer; the function `erase` destroys its key and deletes its words. */
async function eraseConversation(
  deps: HistoryDeps,
  { identity, log }: HttpRequest,
  conversationId: string,
): Promise<unknown> {
  // Who may only read may not delete.
  requireScope(identity, "chat");
  log.add({ conversationId });
  const { tenantId } = identity;
  await execute(
    deps.log,
    conversations,
    conversationId,
    (): ConversationCommand => ({ type: "Erase", at: deps.now(), conversationId, tenantId }),
  );
  return { conversationId, erased: true };
}

const exportQuerySchema = z.strictObject({
  conversation: idSchema.optional(),
  events: z.stringbool().default(false),
  after: z.string().max(1_000).optional(),
});

async function exportHistory(
  deps: HistoryDeps,
  { identity: { tenantId }, query }: HttpRequest,
): Promise<unknown> {
  const parsed = exportQuerySchema.safeParse(query);
  if (!parsed.success) throw refusalOf(parsed.error);
  const { conversation: conversationId, events, after } = parsed.data;
  return exportPage(deps, { tenantId, conversationId, events, after });
}

async function showEvents(
  deps: HistoryDeps,
  { identity, log }: HttpRequest,
  turnId: string,
): Promise<unknown> {
  log.add({ turnId });
  const { state, events } = await load(deps.log, turns, turnId);
  if (state.status !== "none" && state.tenantId === identity.tenantId) return { turnId, events };
  throw new AxonError("turn_not_found", `There is no turn ${turnId}.`);
}

export const handler = lambda(history, [credentials, database, eventLog, models]);
