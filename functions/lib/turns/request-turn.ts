import { randomInt, randomUUID } from "node:crypto";
import type { ConversationCommand, ConversationState } from "../../../events/conversation.ts";
import type { ConversationEvent } from "../../../events/conversation-events.ts";
import { AxonError } from "../../../events/errors.ts";
import { conversationIdFor, turnIdFor } from "../../../events/ids.ts";
import type { ChatMessage } from "../../../events/jobs.ts";
import type { RequestedSampling, Sampling } from "../../../events/sampling.ts";
import type { TraceContext } from "../../../events/tracing/trace-context.ts";
import type { Span } from "../../../events/tracing/tracing.ts";
import { noteTurnTrace } from "../../../events/tracing/turn-trace.ts";
import { isTerminal, type TurnCommand } from "../../../events/turn.ts";
import type { Priority, TurnEvent } from "../../../events/turn-events.ts";
import { admit, type QueuePlace, refuseOverload } from "../admission/admission.ts";
import type { Identity } from "../credentials/authenticate.ts";
import type { Deps } from "../deps.ts";
import { execute } from "../execute.ts";
import type { Model } from "../models.ts";
import type { RequestLog } from "../request-log.ts";
import { route } from "../rollout/routing.ts";
import { type Warming, warmingOf } from "../rollout/warming.ts";
import {
  conversations,
  type Loaded,
  load,
  notWritten,
  type RequestedTurn,
  turns,
} from "../streams.ts";
import { contextAfter } from "./context.ts";
import { exchangesBefore, type JobDeps, sendJob, sendReleased, wasSent } from "./jobs.ts";
import { streamPresence, tellsTheRecord } from "./replay.ts";

export type RequestDeps = JobDeps & Pick<Deps, "now">;

/** What somebody asks, by whichever door. */
export interface Question {
  /** The asker's own name for it: asked again under the same name it is the same turn. */
  requestId: string;
  prompt: string;
  /** Goes on with this conversation; left out, the turn starts a new one. */
  conversationId?: string | undefined;
  /** A model's name; left out, the default model. */
  model?: string | undefined;
  /** What is left out takes the model's default; without a seed one is drawn and recorded. */
  sampling?: RequestedSampling | undefined;
  priority?: Priority | undefined;
  /** What was said before, where the asker keeps the conversation. */
  context?: ChatMessage[] | undefined;
  promptFormat?: "raw" | undefined;
  /** Where a conversation that this starts comes from, when not from a chat. */
  origin?: "api" | undefined;
}

/** Who asks, and how they hear of the answer. */
export interface Asker {
  identity: Identity;
  log: RequestLog;
  /** Of the asking, where it is traced. */
  span?: Span | undefined;
  /** From here on the turn counts as watched. */
  watch(turnId: string): Promise<void>;
  /** The turn is in the log and will be answered. */
  accept(turn: RequestedTurn, waiting: Waiting): Promise<void>;
}

/** What a turn waits for, where it waits. */
export interface Waiting {
  queue?: QueuePlace | undefined;
  warming?: Warming | undefined;
}

/** A turn that was asked for, now or before. */
export interface AskedTurn {
  turn: RequestedTurn;
  /** The turn's log, where the answer has ended and is to be told from it. */
  record?: readonly TurnEvent[];
}

/**
 * A turn that the conversation names but that was never requested belongs to a handler that is still
 * at work, or that has died. API Gateway gives up on a handler after 29 s.
 */
const requestWindowMs = 30_000;

/**
 * Takes a prompt.
 *
 *   received → refused    something is wrong with it: nothing is recorded.
 *            → added      the conversation has the turn; it is the turn's place among the others.
 *   added    → requested  the turn's own log has begun: from here on it will be answered.
 *   requested→ accepted   the asker watches, the job is sent or its turn is held by admission, the
 *                         asker is told.
 *
 * A request that comes again goes through the same states and finds each step done already. So an
 * asker that heard nothing, whatever died, asks again.
 * @throws AxonError for whatever is refused
 */
export async function requestTurn(
  deps: RequestDeps,
  question: Question,
  asker: Asker,
): Promise<AskedTurn> {
  const { identity, log } = asker;
  const turnId = turnIdFor(identity.tenantId, question.requestId);
  const known = await load(deps.log, turns, turnId);
  const { state, events } = known;
  if (state.status !== "none") {
    log.add({ turnId, conversationId: state.conversationId, correlationId: state.correlationId });
    return acceptAgain(deps, question, asker, state, events);
  }
  const conversationId = question.conversationId ?? conversationIdFor(turnId);
  const model = await route(deps, question.model, conversationId, log);
  const correlationId = randomUUID();
  log.add({ turnId, conversationId, correlationId });
  // Before the turn is in the log: from then on others may go on with it.
  await noteTrace(deps, asker.span, { turnId, conversationId, correlationId });

  const { priority = "interactive" } = question;
  await refuseOverload(deps, model.revision, identity.tenantId, priority);
  const exchanges = await addTurn(deps, question, identity, turnId, conversationId);
  const requested = await execute(
    deps.log,
    turns,
    turnId,
    () => requestOf(deps, question, identity, { turnId, conversationId, correlationId, model }),
    known,
  );
  const turn = requested.state;
  if (turn.status === "none") throw new Error(`Turn ${turnId} was not requested.`);
  await asker.watch(turnId);
  await sendOrHold(deps, asker, turn, async () => exchanges, asker.span?.context);
  log.measure("AcceptedTurns", 1);
  return { turn };
}

async function noteTrace(
  { redis }: RequestDeps,
  span: Span | undefined,
  names: { turnId: string; conversationId: string; correlationId: string },
): Promise<void> {
  if (span === undefined) return;
  span.set({
    "axon.turn.id": names.turnId,
    "axon.correlation.id": names.correlationId,
    "gen_ai.conversation.id": names.conversationId,
  });
  await noteTurnTrace(redis, names.turnId, { asked: span.context });
}

/**
 * Gives the turn its place in the conversation.
 * @returns what was said before it.
 */
async function addTurn(
  deps: RequestDeps,
  { prompt, conversationId: named, origin }: Question,
  { tenantId }: Identity,
  turnId: string,
  conversationId: string,
): Promise<ChatMessage[][]> {
  const mustExist = named !== undefined;
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
      ...(origin && { origin }),
    } as const;
    const { state } = current;
    // Of a conversation that the decider will refuse, not a word is read.
    if (state.status !== "open" || state.tenantId !== tenantId) {
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

function requestOf(
  deps: RequestDeps,
  question: Question,
  identity: Identity,
  names: { turnId: string; conversationId: string; correlationId: string; model: Model },
): TurnCommand {
  const { turnId, conversationId, correlationId, model } = names;
  const { prompt, context, promptFormat, priority = "interactive" } = question;
  const given = question.sampling ?? {};
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
    ...{ prompt, priority },
    ...(context && { context }),
    ...(promptFormat && { promptFormat }),
  };
}

/** The turn is in the log already: it is not asked again, only watched from its first token. */
async function acceptAgain(
  deps: RequestDeps,
  question: Question,
  asker: Asker,
  turn: RequestedTurn,
  events: readonly TurnEvent[],
): Promise<AskedTurn> {
  refuseOtherContent(question, turn);
  const stream = await streamPresence(deps, turn.turnId);
  if (!tellsTheRecord(turn, stream)) {
    await asker.accept(turn, {});
    return { turn, record: events };
  }
  await asker.watch(turn.turnId);
  if (isTerminal(turn) || stream.sealed || (await wasSent(deps, turn.turnId))) {
    await asker.accept(turn, {});
  } else {
    await sendOrHold(deps, asker, turn, () => exchangesBefore(deps, turn));
  }
  return { turn };
}

/** One name for two requests is a mistake of the client, which must not pass for an answer. */
function refuseOtherContent(question: Question, turn: RequestedTurn): void {
  const { conversationId = turn.conversationId, prompt, context, promptFormat } = question;
  const isSame =
    prompt === turn.prompt &&
    conversationId === turn.conversationId &&
    promptFormat === turn.promptFormat &&
    JSON.stringify(context) === JSON.stringify(turn.context);
  if (isSame) return;
  throw new AxonError(
    "invalid_field",
    "requestId: was used for another prompt. Give each request its own, and keep it when you retry.",
    { field: "requestId" },
  );
}

/** Sends the job, unless the turn is to wait, and tells the asker; then those that have waited so far. */
async function sendOrHold(
  deps: RequestDeps,
  { log, accept }: Asker,
  turn: RequestedTurn,
  context: () => Promise<readonly ChatMessage[][]>,
  asked?: TraceContext,
): Promise<void> {
  const { queue, released } = await admit(deps, turn);
  if (queue === undefined) await trySendJob(deps, log, turn, context, asked);
  const warming = await warmingOf(deps, turn.revision, log);
  await accept(turn, { queue, warming });
  await sendReleased(deps, released, log);
}

/** What cannot be sent now is sent by `dispatch`: the turn is in the log, and so it is accepted. */
async function trySendJob(
  deps: RequestDeps,
  log: RequestLog,
  turn: RequestedTurn,
  context: () => Promise<readonly ChatMessage[][]>,
  asked: TraceContext | undefined,
): Promise<void> {
  try {
    await sendJob(deps, turn, await context(), asked);
  } catch (error) {
    log.warn("the job is left to the outbox", { error });
  }
}
