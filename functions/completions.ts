import { Readable } from "node:stream";
import { AxonError } from "../events/errors.ts";
import { turnIdFor } from "../events/ids.ts";
import { admissionLimits } from "./lib/admission/admission.ts";
import { type RateLeft, rateLimit, takeFromRate } from "./lib/admission/rate-limit.ts";
import { credentials } from "./lib/credentials/authenticate.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { toAxonError } from "./lib/failures.ts";
import { type Model, models } from "./lib/models.ts";
import { shapeOf } from "./lib/openai/answers.ts";
import { errorOf, errorOfEnd, errorOfReading } from "./lib/openai/errors.ts";
import { type EventId, eventsOf } from "./lib/openai/event-stream.ts";
import { type ApiRequest, apiHandler, jsonResponse } from "./lib/openai/handler.ts";
import { type Asked, askedInChat, askedToComplete } from "./lib/openai/parameters.ts";
import { bodyOf, lastEventIdOf, requestIdOf } from "./lib/openai/requests.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import { logRefusal } from "./lib/stack.ts";
import {
  type StreamedResponse,
  type StreamingHandler,
  streamingLambda,
} from "./lib/streamed-http.ts";
import { load, type RequestedTurn, turns } from "./lib/streams.ts";
import {
  type AnswerPart,
  beginning,
  markRead,
  type Place,
  partsFromLog,
  readAnswer,
} from "./lib/turns/read-answer.ts";
import { streamPresence, tellsTheRecord } from "./lib/turns/replay.ts";
import { type AskedTurn, type RequestDeps, requestTurn } from "./lib/turns/request-turn.ts";
import { type Bell, type TurnBells, turnBells } from "./lib/turns/turn-bells.ts";

type ApiDeps = RequestDeps & Pick<Deps, "authenticate" | "rate">;
type Route = (deps: RouteDeps, request: ApiRequest, id: string) => Promise<StreamedResponse>;
type RouteDeps = ApiDeps & { bells: TurnBells };

const ask = (understand: (body: unknown) => Asked) => (deps: RouteDeps, request: ApiRequest) =>
  answerRequest(deps, request, understand(bodyOf(request.event)));

/** The routes of docs/OPENAI.md. A group in a pattern is the id of what is asked for. */
const routes: readonly { method: string; pattern: RegExp; answer: Route }[] = [
  { method: "POST", pattern: /^\/v1\/chat\/completions$/, answer: ask(askedInChat) },
  { method: "POST", pattern: /^\/v1\/completions$/, answer: ask(askedToComplete) },
  {
    method: "GET",
    pattern: /^\/v1\/(?:chat\/)?completions\/([A-Za-z0-9_-]{1,64})$/,
    answer: showAnswer,
  },
  { method: "GET", pattern: /^\/v1\/models$/, answer: listModels },
  { method: "GET", pattern: /^\/v1\/models\/(.{1,300})$/, answer: showModel },
];

/**
 * OpenAI's API, on the turns that chats are made of. A request is a turn in a conversation of its own, which
 * the caller keeps; its answer is read from the token stream, as a relay reads it, and streamed to the
 * caller. A client that goes away cancels nothing by that: it can come back for the rest, and when nobody
 * does, the turn ends as one that nobody watches.
 */
export function completions(deps: ApiDeps): StreamingHandler {
  const routed: RouteDeps = { ...deps, bells: turnBells(deps.redis) };
  return apiHandler(deps, async (request) => {
    const { rawPath, requestContext } = request.event;
    for (const { method, pattern, answer } of routes) {
      const match = method === requestContext.http.method ? pattern.exec(rawPath) : null;
      if (match !== null) return answer(routed, request, match[1] ?? "");
    }
    const known = "POST /v1/chat/completions, POST /v1/completions, GET /v1/models";
    throw new AxonError("not_found", `There is no such route. There are: ${known}.`);
  });
}

const modelObject = ({ model, contextTokens }: Model) => ({
  ...{ id: model, object: "model", owned_by: "axon", max_model_len: contextTokens },
  // The catalog does not know when.
  created: 0,
});

async function listModels({ models }: RouteDeps): Promise<StreamedResponse> {
  const named = new Map(models.all().map((model) => [model.model, models.pick(model.model)]));
  return jsonResponse(200, { object: "list", data: [...named.values()].map(modelObject) });
}

async function showModel(
  { models }: RouteDeps,
  _request: ApiRequest,
  id: string,
): Promise<StreamedResponse> {
  return jsonResponse(200, modelObject(models.pick(decoded(id))));
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function answerRequest(
  deps: RouteDeps,
  request: ApiRequest,
  asked: Asked,
): Promise<StreamedResponse> {
  const { event, identity, log, span } = request;
  const last = lastEventIdOf(event);
  if (last !== undefined) return goOn(deps, request, last, asked);
  const requestId = requestIdOf(event);
  const left = await takeFromRate(deps.redis, identity.tenantId, deps.rate);
  // From before the job is sent: the first token may come at once.
  const bell = deps.bells.listen(turnIdFor(identity.tenantId, requestId));
  try {
    const turn = await requestTurn(
      deps,
      { ...asked.question, requestId },
      {
        ...{ identity, log, span },
        watch: (turnId) => markRead(deps, turnId),
        accept: async () => {},
      },
    );
    return await tell(deps, request, { ...turn, bell, place: beginning }, asked, rateHeaders(left));
  } catch (error) {
    bell.close();
    throw error;
  }
}

const rateHeaders = ({ limit, remaining, resetMs }: RateLeft): Record<string, string> => ({
  "x-ratelimit-limit-requests": String(limit),
  "x-ratelimit-remaining-requests": String(remaining),
  "x-ratelimit-reset-requests": `${resetMs}ms`,
});

/** A turn's answer, also of one that was asked for elsewhere: whole, or on from the last event. */
async function showAnswer(
  deps: RouteDeps,
  request: ApiRequest,
  turnId: string,
): Promise<StreamedResponse> {
  const { event } = request;
  const { queryStringParameters: query = {} } = event;
  const last = lastEventIdOf(event);
  if (last !== undefined && last.turnId !== turnId) {
    const message = `Last-Event-ID: is an event of ${last.turnId}, not of ${turnId}.`;
    throw new AxonError("invalid_field", message, { field: "Last-Event-ID" });
  }
  return goOn(deps, request, last ?? { turnId, place: beginning }, {
    stream: last !== undefined || query["stream"] === "true",
    includeUsage: query["include_usage"] === "true",
  });
}

async function goOn(
  deps: RouteDeps,
  request: ApiRequest,
  { turnId, place }: EventId,
  how: Pick<Asked, "stream" | "includeUsage">,
): Promise<StreamedResponse> {
  if (!how.stream && place.seq > 0) {
    const message =
      "Last-Event-ID: goes with a stream. Set stream to true, or leave the header out.";
    throw new AxonError("invalid_field", message, { field: "Last-Event-ID" });
  }
  // Each read holds an instance of the function for as long as the answer takes.
  await takeFromRate(deps.redis, request.identity.tenantId, deps.rate);
  const bell = deps.bells.listen(turnId);
  try {
    const { state, events } = await load(deps.log, turns, turnId);
    // Of an erased conversation there is nothing to be told.
    const isGone = state.status === "none" || state.erased === true;
    if (isGone || state.tenantId !== request.identity.tenantId) {
      throw new AxonError("turn_not_found", `There is no turn ${turnId}.`, { field: "id" });
    }
    const { conversationId, correlationId } = state;
    request.log.add({ turnId, conversationId, correlationId });
    const isTold = tellsTheRecord(state, await streamPresence(deps, turnId));
    const asked = { turn: state, ...(!isTold && { record: events }) };
    return await tell(deps, request, { ...asked, bell, place }, how);
  } catch (error) {
    bell.close();
    throw error;
  }
}

type Told = AskedTurn & { bell: Bell; place: Place };

/** Tells an answer from a place on: as it grows, or whole when it has ended. */
async function tell(
  deps: RouteDeps,
  request: ApiRequest,
  told: Told,
  how: Pick<Asked, "stream" | "includeUsage">,
  more: Record<string, string> = {},
): Promise<StreamedResponse> {
  const { turn, place } = told;
  const headers = {
    ...more,
    "x-request-id": turn.turnId,
    "x-axon-conversation": turn.conversationId,
  };
  const parts = partsOf(deps, request, told);
  if (!how.stream) return wholeAnswer(turn, parts, headers);
  const events = eventsOf({ turnId: turn.turnId, place }, parts, shapeOf(turn), {
    includeUsage: how.includeUsage,
    onFailure(error) {
      const failure = toAxonError(error);
      logRefusal(request.log, failure, { isAnswered: true });
      return errorOf(failure).body;
    },
  });
  const body = Readable.from(events, { highWaterMark: 1 });
  // Also of a body that nobody ever began to read.
  body.once("close", () => told.bell.close());
  return {
    statusCode: 200,
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      // Nothing in between may keep events back.
      ...{ "cache-control": "no-store, no-transform", "x-accel-buffering": "no" },
      ...headers,
    },
    body,
  };
}

async function* partsOf(
  deps: RouteDeps,
  { until, gone, log }: ApiRequest,
  { turn: { turnId }, record, bell, place }: Told,
): AsyncGenerator<AnswerPart> {
  const startedAt = performance.now();
  let ending = "left";
  try {
    const parts =
      record === undefined
        ? readAnswer(deps, { turnId, from: place, bell, until, gone })
        : partsFromLog(record, place);
    for await (const part of parts) {
      if (part.type === "end") ending = part.end.finishReason;
      yield part;
    }
  } finally {
    bell.close();
    log.info("told", { ending, durationMs: Math.round(performance.now() - startedAt) });
  }
}

async function wholeAnswer(
  turn: RequestedTurn,
  parts: AsyncIterable<AnswerPart>,
  headers: Record<string, string>,
): Promise<StreamedResponse> {
  try {
    let text = "";
    for await (const part of parts) {
      if (part.type === "text") text += part.text;
      if (part.type !== "end") continue;
      const failure = errorOfEnd(part.end);
      if (failure !== undefined) return jsonResponse(failure.status, failure.body, headers);
      return jsonResponse(200, shapeOf(turn).whole(text, part.end), headers);
    }
  } catch (error) {
    const broken = errorOfReading(error, turn.turnId);
    if (broken === undefined) throw error;
    return jsonResponse(broken.status, broken.body, headers);
  }
  // The client has gone: nobody reads this.
  return { statusCode: 499, headers, body: "" };
}

export const handler = streamingLambda(completions, [
  eventLog,
  redis,
  queues,
  models,
  admissionLimits,
  rateLimit,
  credentials,
]);
