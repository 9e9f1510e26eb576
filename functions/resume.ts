import { AxonError } from "../events/errors.ts";
import { resumeFrameSchema } from "../events/frames.ts";
import { connections } from "./lib/connections.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { redis } from "./lib/redis.ts";
import { type SocketDeps, type SocketHandler, socketHandler } from "./lib/socket.ts";
import { load, turns } from "./lib/streams.ts";
import { framesFromLog, streamPresence, tellsTheRecord } from "./lib/turns/replay.ts";
import { watchTurn } from "./lib/turns/watchers.ts";

/**
 * Goes on with a turn's answer after the last token that the client has. The relay does it from the
 * token stream, and finds out by its epoch whether the stream still has that token. Where the stream has
 * expired, or tells another ending than the log, the log has the answer.
 */
export function resume(deps: SocketDeps & Pick<Deps, "log">): SocketHandler {
  return socketHandler(deps, { schema: resumeFrameSchema, scope: "chat" }, async (request) => {
    const { turnId, after, epoch } = request.frame;
    const { state, events } = await load(deps.log, turns, turnId);
    // Of an erased conversation there is nothing to be told.
    const isGone = state.status === "none" || state.erased === true;
    if (isGone || state.tenantId !== request.identity.tenantId) {
      throw new AxonError("turn_not_found", `There is no turn ${turnId}.`, { field: "turnId" });
    }
    request.log.add({ conversationId: state.conversationId, correlationId: state.correlationId });
    const stream = await streamPresence(deps, turnId);
    if (!tellsTheRecord(state, stream)) {
      // The log does not know where token `after` ends, so the answer is told from its start.
      if (after > 0) await request.answer({ type: "rewind", turnId, to: 0 });
      for (const frame of framesFromLog(events)) await request.answer(frame);
      return;
    }
    // Without its epoch nobody can tell of a token beyond the stream whether it is part of the answer.
    const sent = epoch === 0 ? Math.min(after, stream.lastSeq) : after;
    if (sent < after) await request.answer({ type: "rewind", turnId, to: sent });
    await watchTurn(deps.redis, turnId, request.connectionId, { sent, epoch });
  });
}

export const handler = lambda(resume, [eventLog, redis, connections]);
