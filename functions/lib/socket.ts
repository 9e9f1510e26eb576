import type {
  APIGatewayProxyStructuredResultV2,
  APIGatewayProxyWebsocketEventV2,
  Context,
} from "aws-lambda";
import * as z from "zod";
import { AxonError, errorCodes } from "../../events/errors.ts";
import { type ErrorFrame, idSchema, type ServerFrame } from "../../events/frames.ts";
import { limits } from "../../events/limits.ts";
import { connectionKey, relayOf } from "../../events/redis-keys.ts";
import { defaultScopes, type Scope } from "../../events/scopes.ts";
import { parseTraceparent } from "../../events/tracing/trace-context.ts";
import type { Span } from "../../events/tracing/tracing.ts";
import type { Identity } from "./credentials/authenticate.ts";
import { requireScope, scopesIn } from "./credentials/scopes.ts";
import type { Deps } from "./deps.ts";
import { refusalOf } from "./refusals.ts";
import type { RequestLog } from "./request-log.ts";
import { type Invocation, stack } from "./stack.ts";

/** One frame of a client, understood, and who sent it. */
export interface SocketRequest<Frame> {
  connectionId: string;
  identity: Identity;
  frame: Frame;
  /** Lambda's own name of the invocation, which its retries keep. */
  invocationId: string;
  log: RequestLog;
  span: Span | undefined;
  /** When the gateway got it, Unix ms. */
  receivedAt: number;
  /** Sends a frame back. A frame that cannot be delivered now is not the request's failure. */
  answer(frame: ServerFrame): Promise<void>;
}

/** What answering a frame needs. */
export type AnswerDeps = Pick<
  Deps,
  "sendFrame" | "closeConnection" | "logger" | "tracing" | "metrics"
>;
/** What it needs to know who has sent it. */
export type SocketDeps = AnswerDeps & Pick<Deps, "redis" | "now">;

export type SocketHandler = (
  event: APIGatewayProxyWebsocketEventV2,
  context: Context,
) => Promise<APIGatewayProxyStructuredResultV2>;

/**
 * The handler of one kind of frame, from a connection that is known. Whatever goes wrong is answered
 * with an `error` frame.
 */
export function socketHandler<Frame>(
  deps: SocketDeps,
  { schema, scope }: { schema: z.ZodType<Frame>; scope: Scope },
  handle: (request: SocketRequest<Frame>) => Promise<void>,
): SocketHandler {
  return rawSocketHandler(deps, async (event, invocation, answer) => {
    const { log, span, awsRequestId: invocationId } = invocation;
    const { connectionId, requestTimeEpoch: receivedAt } = event.requestContext;
    const frame = parseFrame(event, schema);
    const identity = await identityOf(deps, connectionId);
    log.add({ tenantId: identity.tenantId });
    span?.set({ "axon.tenant.id": identity.tenantId });
    requireScope(identity, scope);
    const about = { connectionId, identity, invocationId, log, receivedAt, span };
    await handle({ ...about, frame, answer });
  });
}

type Answer = (frame: ServerFrame) => Promise<void>;

/**
 * The handler of any event of the WebSocket. Frames go back by the gateway's callbacks; to a relay's own
 * door, which waits for what it has invoked, they go in the result, a JSON list in its body. API Gateway
 * always gets 200: it would make of anything else a message that names neither code nor field.
 */
export function rawSocketHandler(
  deps: AnswerDeps,
  handle: (
    event: APIGatewayProxyWebsocketEventV2,
    invocation: Invocation,
    answer: Answer,
  ) => Promise<void>,
): SocketHandler {
  const answers = new WeakMap<APIGatewayProxyWebsocketEventV2, ServerFrame[]>();
  const answerTo =
    (event: APIGatewayProxyWebsocketEventV2, log: RequestLog): Answer =>
    async (frame) => {
      const { connectionId } = event.requestContext;
      const waiting = answers.get(event);
      if (relayOf(connectionId) !== undefined && waiting !== undefined) waiting.push(frame);
      else await deliver(deps, connectionId, frame, log);
    };
  const result = (event: APIGatewayProxyWebsocketEventV2, statusCode = 200) => {
    const frames = answers.get(event) ?? [];
    return { statusCode, ...(frames.length > 0 && { body: JSON.stringify(frames) }) };
  };
  const handler = stack<APIGatewayProxyWebsocketEventV2, APIGatewayProxyStructuredResultV2>(
    deps,
    {
      keysOf: ({ requestContext, body }) => ({
        connectionId: requestContext.connectionId,
        route: requestContext.routeKey,
        ...namesIn(body),
      }),
      refuse: async (error, event, log) => {
        if (error instanceof UnknownConnection) return leave(deps, event, log, result(event, 410));
        const isOver = error instanceof EndedCredential;
        // With nothing named, a client knows that it is the whole connection that is refused.
        await answerTo(event, log)(errorFrame(error, isOver ? {} : namesIn(event.body)));
        return isOver ? leave(deps, event, log, result(event, 410)) : result(event);
      },
      spanOf: frameSpan,
    },
    async (event, invocation) => {
      await handle(event, invocation, answerTo(event, invocation.log));
      return result(event);
    },
  );
  return (event, context) => {
    answers.set(event, []);
    return handler(event, context);
  };
}

/** The span of a frame, in the trace that its client names: who that is we do not know yet. */
function frameSpan({ requestContext, body }: APIGatewayProxyWebsocketEventV2) {
  const { routeKey, requestTimeEpoch, connectionId } = requestContext;
  const parent = traceparentSchema.safeParse(parseJson(body ?? "")).data?.traceparent;
  return {
    name: routeKey,
    kind: "server" as const,
    parent: parseTraceparent(parent),
    isBorder: true,
    attributes: {
      "faas.trigger": "http",
      "axon.connection.id": connectionId,
      // A cold start and the way through the gateway are before the span.
      "axon.gateway.wait_ms": Math.max(0, Date.now() - requestTimeEpoch),
    },
  };
}
const traceparentSchema = z.object({ traceparent: z.string().optional() });

/** Redis has lost whose connection it is. A client whose connection closes shows its credential anew. */
class UnknownConnection extends AxonError {
  constructor() {
    super("unauthenticated", "This connection is not known any more. Connect again.");
  }
}

/** The key was revoked or rotated, or the credential has expired. Turns that it has asked for go on. */
class EndedCredential extends AxonError {
  constructor() {
    const message = "The credential of this connection was revoked or has expired. Use another.";
    super("unauthenticated", message);
  }
}

/** Closes a connection that may say nothing more; a relay's own door does so itself, told by `ended`. */
async function leave(
  deps: AnswerDeps,
  { requestContext: { connectionId } }: APIGatewayProxyWebsocketEventV2,
  log: RequestLog,
  ended: APIGatewayProxyStructuredResultV2,
): Promise<APIGatewayProxyStructuredResultV2> {
  if (relayOf(connectionId) !== undefined) return ended;
  await deps.closeConnection(connectionId).catch((error: unknown) => {
    log.warn("a connection was not closed", { error });
  });
  return { statusCode: 200 };
}

/** @throws AxonError invalid_frame when the body is no JSON object of the allowed size. */
export function parseObject(event: APIGatewayProxyWebsocketEventV2): Record<string, unknown> {
  const { body = "", isBase64Encoded } = event;
  if (isBase64Encoded) {
    throw new AxonError("invalid_frame", "A frame is text; this one was binary. Send JSON.");
  }
  const bytes = Buffer.byteLength(body);
  if (bytes > limits.frameBytes) {
    throw new AxonError(
      "invalid_frame",
      `A frame has at most ${limits.frameBytes} bytes; this one had ${bytes}. Send less.`,
    );
  }
  const value = parseJson(body);
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  throw new AxonError("invalid_frame", "A frame is one JSON object. Send that.");
}

function parseFrame<Frame>(
  event: APIGatewayProxyWebsocketEventV2,
  schema: z.ZodType<Frame>,
): Frame {
  const result = schema.safeParse(parseObject(event));
  if (result.success) return result.data;
  throw refusalOf(result.error);
}

async function identityOf({ redis, now }: SocketDeps, connectionId: string): Promise<Identity> {
  const { tenantId, userId, scopes, endsAt } = await redis.hgetall(connectionKey(connectionId));
  if (tenantId === undefined || userId === undefined) throw new UnknownConnection();
  // What is no number ends it, too.
  if (endsAt !== undefined && !(Number(endsAt) > now())) throw new EndedCredential();
  // A connection that an older `connect` has bound.
  if (scopes === undefined) return { tenantId, userId, scopes: defaultScopes };
  return { tenantId, userId, scopes: scopesIn(scopes) };
}

async function deliver(
  deps: AnswerDeps,
  connectionId: string,
  frame: ServerFrame,
  log: RequestLog,
): Promise<void> {
  try {
    const outcome = await deps.sendFrame(connectionId, frame);
    if (outcome === "gone") log.info("the connection is gone", { frame: frame.type });
  } catch (error) {
    log.warn("a frame was not delivered", { frame: frame.type, error });
  }
}

type Names = { requestId?: string; turnId?: string };

function errorFrame(error: AxonError, names: Names): ErrorFrame {
  const { code, message, field, retryAfterMs } = error;
  return {
    type: "error",
    code,
    message,
    retryable: errorCodes[code].retryable,
    ...(field !== undefined && { field }),
    ...names,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  };
}

const namesSchema = z.object({
  requestId: idSchema.optional().catch(undefined),
  turnId: idSchema.optional().catch(undefined),
});

/** What the frame says it is about, however wrong the rest of it may be. */
function namesIn(body: string | undefined): Names {
  const result = namesSchema.safeParse(parseJson(body ?? ""));
  if (!result.success) return {};
  const { requestId, turnId } = result.data;
  return { ...(requestId !== undefined && { requestId }), ...(turnId !== undefined && { turnId }) };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
