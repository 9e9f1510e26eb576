import { AxonError } from "../events/errors.ts";
import { credentials } from "./lib/authenticate.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { conversationById, conversationPage } from "./lib/history-queries.ts";
import { type HttpHandler, type HttpRequest, httpHandler } from "./lib/http.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { load, turns } from "./lib/streams.ts";

type HistoryDeps = Pick<Deps, "authenticate" | "database" | "log" | "models" | "logger">;
type Route = (deps: HistoryDeps, request: HttpRequest, id: string) => Promise<unknown>;

/** The routes of docs/PROTOCOL.md. A group in a pattern is the id of what is asked for. */
const routes: readonly { pattern: RegExp; answer: Route }[] = [
  { pattern: /^\/api\/models$/, answer: listModels },
  { pattern: /^\/api\/conversations$/, answer: listConversations },
  { pattern: /^\/api\/conversations\/([A-Za-z0-9_-]{1,64})$/, answer: showConversation },
  { pattern: /^\/api\/turns\/([A-Za-z0-9_-]{1,64})\/events$/, answer: showEvents },
];

/**
 * History over HTTP, for one tenant. Conversations are shown as far as the projection has got; a
 * turn's events come from the log itself.
 */
export function history(deps: HistoryDeps): HttpHandler {
  return httpHandler(deps, "history", async (request) => {
    for (const { pattern, answer } of routes) {
      const match = pattern.exec(request.path);
      if (match !== null && request.method === "GET") return answer(deps, request, match[1] ?? "");
    }
    const known =
      "/api/conversations, /api/conversations/{id}, /api/turns/{id}/events, /api/models";
    throw new AxonError("not_found", `There is no such route. GET one of: ${known}.`);
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
