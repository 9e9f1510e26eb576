import { randomInt, randomUUID } from "node:crypto";
import type { ConversationCommand, ConversationState } from "../events/conversation.ts";
import type { ConversationEvent } from "../events/conversation-events.ts";
import { AxonError } from "../events/errors.ts";
import { type AcceptedFrame, type ChatFrame, chatFrameSchema } from "../events/frames.ts";
import { conversationIdFor, turnIdFor } from "../events/ids.ts";
import type { ChatMessage } from "../events/jobs.ts";
import type { Sampling } from "../events/sampling.ts";
import { isTerminal, type TurnCommand } from "../events/turn.ts";
import type { TurnEvent } from "../events/turn-events.ts";
import { admissionLimits, admit, type QueuePlace, refuseOverload } from "./lib/admission.ts";
import { connections } from "./lib/connections.ts";
import { contextAfter } from "./lib/context.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { execute } from "./lib/execute.ts";
import { exchangesBefore, type JobDeps, sendJob, sendReleased, wasSent } from "./lib/jobs.ts";
import { lambda } from "./lib/lambda.ts";
import { type Model, models } from "./lib/models.ts";
import { queues } from "./lib/queues.ts";
import { rateLimit, takeFromRate } from "./lib/rate-limit.ts";
import { redis } from "./lib/redis.ts";
import { framesFromLog, streamPresence, tellsTheRecord } from "./lib/replay.ts";
import { route } from "./lib/routing.ts";
import {
  type SocketDeps,
  type SocketHandler,
  type SocketRequest,
  socketHandler,
} from "./lib/socket.ts";
import {
  conversations,
  type Loaded,
  load,
  notWritten,
  type RequestedTurn,
  turns,
} from "./lib/streams.ts";
import { type Warming, warmingOf } from "./lib/warming.ts";
import { watchTurn } from "./lib/watchers.ts";

type ChatDeps = SocketDeps & JobDeps & Pick<Deps, "rate" | "now">;
type ChatRequest = SocketRequest<ChatFrame>;

/**
 * A turn that the conversation names but that was never requested belongs to a handler that is still
 * at work, or that has died. API Gateway gives up on a handler after 29 s.
 */
const requestWindowMs = 30_000;

/**
 * Takes a prompt.
 *
 *   received → refused    something is wrong with it: an `error` frame, and nothing is recorded.
 *            → added      the conversation has the turn; it is the turn's place among the others.
 *   added    → requested  the turn's own log has begun: from here on it will be answered.
 *   requested→ accepted   the connection watches, the job is sent or its turn is held by admission, the
 *                         client is told.
 *
 * A request that comes again goes through the same states and finds each step done already. So a
 * client that heard nothing, whatever died, sends its request again.
 */
export function chat(deps: ChatDeps): SocketHandler {
  return socketHandler(deps, { schema: chatFrameSchema, scope: "chat" }, async (request) => {
    const { frame, identity, log } = request;
    await takeFromRate(deps.redis, identity.tenantId, deps.rate);
    const turnId = turnIdFor(identity.tenantId, frame.requestId);
    const known = await load(deps.log, turns, turnId);
    const { state, events } = known;
    if (state.status !== "none") {
      log.add({ turnId, conversationId: state.conversationId, correlationId: state.correlationId });
      return acceptAgain(deps, request, state, events);
    }
    const conversationId = frame.conversationId ?? conversationIdFor(turnId);
    const model = await route(deps, frame.model, conversationId, log);
    const correlationId = randomUUID();
    log.add({ turnId, conversationId, correlationId });

    const { priority = "interactive" } = frame;
    await refuseOverload(deps, model.revision, identity.tenantId, priority);
    const exchanges = await addTurn(deps, request, turnId, conversationId);
    const requested = await execute(
      deps.log,
      turns,
      turnId,
      () => requestTurn(deps, request, { turnId, conversationId, correlationId, model }),
      known,
    );
    if (requested.state.status === "none") throw new Error(`Turn ${turnId} was not requested.`);
    await watchTurn(deps.redis, turnId, request.connectionId);
    await sendOrHold(deps, request, requested.state, async () => exchanges);
  });
}

/**
 * Gives the turn its place in the conversation.
 * @returns what was said before it.
 */
async function addTurn(
  deps: ChatDeps,
  { frame, identity: { tenantId } }: ChatRequest,
  turnId: string,
  conversationId: string,
): Promise<ChatMessage[][]> {
  const { prompt } = frame;
  const mustExist = frame.conversationId !== undefined;
  let exchanges: ChatMessage[][] = [];

  async function command(
    current: Loaded<ConversationEvent, ConversationState>,
  ): Promise<ConversationCommand> {
    const at = deps.now();
    const facts = {
      type: "AddTurn",
      at,
      conversationId,
      tenantId,
      turnId,
      prompt,
      mustExist,
    } as const;
    const { state } = current;
    // Of a conversation that the decider will refuse, not a word is read.
    if (state.status === "none" || state.tenantId !== tenantId) {
      return { ...facts, runningTurnId: undefined };
    }
    const place = state.turnIds.indexOf(turnId);
    const earlier = state.turnIds.slice(0, place === -1 ? undefined : place);
    const context = await contextAfter(deps, conversationId, earlier);
    exchanges = context.exchanges;
    const { latest } = context;
    const isAboutToRun =
      latest?.status === "absent" && at < addedAt(current.events, latest.turnId) + requestWindowMs;
    return { ...facts, runningTurnId: isAboutToRun ? latest.turnId : context.runningTurnId };
  }

  // An id that was made from this turn's is new, unless an earlier attempt has got this far.
  const loaded = mustExist ? undefined : notWritten(conversations);
  await execute(deps.log, conversations, conversationId, command, loaded);
  return exchanges;
}

function addedAt(events: readonly ConversationEvent[], turnId: string): number {
  const added = events.find((event) => event.type === "TurnAdded" && event.turnId === turnId);
  return added?.at ?? 0;
}

function requestTurn(
  deps: ChatDeps,
  { frame, identity }: ChatRequest,
  names: { turnId: string; conversationId: string; correlationId: string; model: Model },
): TurnCommand {
  const { turnId, conversationId, correlationId, model } = names;
  const given = frame.sampling ?? {};
  const defaults = model.sampling;
  const sampling: Sampling = {
    maxTokens: given.maxTokens ?? defaults.maxTokens,
    temperature: given.temperature ?? defaults.temperature,
    topK: given.topK ?? defaults.topK,
    topP: given.topP ?? defaults.topP,
    minP: given.minP ?? defaults.minP,
    repetitionPenalty: given.repetitionPenalty ?? defaults.repetitionPenalty,
    stop: given.stop ?? defaults.stop,
    seed: given.seed ?? randomInt(2 ** 32),
  };
  return {
    type: "RequestTurn",
    at: deps.now(),
    ...{ turnId, conversationId, correlationId, sampling },
    tenantId: identity.tenantId,
    model: model.model,
    revision: model.revision,
    prompt: frame.prompt,
    priority: frame.priority ?? "interactive",
  };
}

/** The turn is in the log already: it is not asked again, only watched from its first token. */
async function acceptAgain(
  deps: ChatDeps,
  request: ChatRequest,
  turn: RequestedTurn,
  events: readonly TurnEvent[],
): Promise<void> {
  const { frame, connectionId } = request;
  refuseOtherContent(frame, turn);
  const stream = await streamPresence(deps, turn.turnId);
  if (!tellsTheRecord(turn, stream)) {
    await request.answer(accepted(frame, turn));
    for (const reply of framesFromLog(events)) await request.answer(reply);
    return;
  }
  await watchTurn(deps.redis, turn.turnId, connectionId);
  if (isTerminal(turn) || stream.sealed || (await wasSent(deps, turn.turnId))) {
    await request.answer(accepted(frame, turn));
    return;
  }
  await sendOrHold(deps, request, turn, () => exchangesBefore(deps, turn));
}

/** One name for two requests is a mistake of the client, which must not pass for an answer. */
function refuseOtherContent(frame: ChatFrame, turn: RequestedTurn): void {
  const { conversationId = turn.conversationId } = frame;
  if (frame.prompt === turn.prompt && conversationId === turn.conversationId) return;
  throw new AxonError(
    "invalid_field",
    "requestId: was used for another prompt. Give each request its own, and keep it when you retry.",
    { field: "requestId" },
  );
}

/** Sends the job, unless the turn is to wait, and tells the client; then those that have waited so far. */
async function sendOrHold(
  deps: ChatDeps,
  request: ChatRequest,
  turn: RequestedTurn,
  context: () => Promise<readonly ChatMessage[][]>,
): Promise<void> {
  const { queue, released } = await admit(deps, turn);
  if (queue === undefined) await trySendJob(deps, request, turn, context);
  const warming = await warmingOf(deps, turn.revision, request.log);
  await request.answer(accepted(request.frame, turn, { queue, warming }));
  await sendReleased(deps, released, request.log);
}

/** What cannot be sent now is sent by `dispatch`: the turn is in the log, and so it is accepted. */
async function trySendJob(
  deps: ChatDeps,
  { log }: ChatRequest,
  turn: RequestedTurn,
  context: () => Promise<readonly ChatMessage[][]>,
): Promise<void> {
  try {
    await sendJob(deps, turn, await context());
  } catch (error) {
    log.warn("the job is left to the outbox", { error });
  }
}

function accepted(
  { requestId }: ChatFrame,
  turn: RequestedTurn,
  { queue, warming }: { queue?: QueuePlace | undefined; warming?: Warming | undefined } = {},
): AcceptedFrame {
  const { turnId, conversationId, model, revision } = turn;
  const names = { requestId, turnId, conversationId, model, revision };
  return { type: "accepted", ...names, ...(queue && { queue }), ...(warming && { warming }) };
}

export const handler = lambda(chat, [
  eventLog,
  redis,
  queues,
  database,
  models,
  admissionLimits,
  rateLimit,
  connections,
]);
