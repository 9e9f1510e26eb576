import { type AcceptedFrame, type ChatFrame, chatFrameSchema } from "../events/frames.ts";
import { admissionLimits } from "./lib/admission/admission.ts";
import { rateLimit, takeFromRate } from "./lib/admission/rate-limit.ts";
import { connections } from "./lib/connections.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import { type SocketDeps, type SocketHandler, socketHandler } from "./lib/socket.ts";
import type { RequestedTurn } from "./lib/streams.ts";
import { framesFromLog } from "./lib/turns/replay.ts";
import { type RequestDeps, requestTurn, type Waiting } from "./lib/turns/request-turn.ts";
import { watchTurn } from "./lib/turns/watchers.ts";

/**
 * Takes a prompt from a connection: the turn is made as in request-turn.ts, the connection is bound to
 * it, and its answer comes through a relay. What has ended and is in the log only is told at once.
 */
export function chat(deps: SocketDeps & RequestDeps & Pick<Deps, "rate">): SocketHandler {
  return socketHandler(deps, { schema: chatFrameSchema, scope: "chat" }, async (request) => {
    const { frame, identity, log, span, connectionId, receivedAt, answer } = request;
    await takeFromRate(deps.redis, identity.tenantId, deps.rate);
    const { record = [] } = await requestTurn(deps, frame, {
      ...{ identity, log, span },
      watch: (turnId) => watchTurn(deps.redis, turnId, connectionId),
      async accept(turn, waiting) {
        await answer(accepted(frame, turn, waiting));
        log.measure("TimeToAccepted", Math.max(0, deps.now() - receivedAt));
      },
    });
    for (const reply of framesFromLog(record)) await answer(reply);
  });
}

function accepted(
  { requestId }: ChatFrame,
  turn: RequestedTurn,
  { queue, warming }: Waiting,
): AcceptedFrame {
  const { turnId, conversationId, model, revision } = turn;
  const names = { requestId, turnId, conversationId, model, revision };
  return {
    ...{ type: "accepted", ...names, ...(queue && { queue }) },
    ...(warming && { warming: { estimatedMs: warming.estimatedMs } }),
  };
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
