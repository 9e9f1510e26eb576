import { AxonError } from "../events/errors.ts";
import { resumeFrameSchema } from "../events/frames.ts";
import { isTerminal } from "../events/turn.ts";
import type { Deps } from "./lib/deps.ts";
import { framesFromLog, streamPresence } from "./lib/replay.ts";
import { type SocketHandler, socketHandler } from "./lib/socket.ts";
import { load, turns } from "./lib/streams.ts";
import { watchTurn } from "./lib/watchers.ts";

/**
 * Goes on with a turn's answer after the last token that the client has. The relay does it from the
 * token stream; when that has expired the log has the answer, and when it was lost, or lost its end,
 * the client cuts back to what there is.
 */
export function resume(deps: Deps): SocketHandler {
  return socketHandler(deps, resumeFrameSchema, async (request) => {
    const { turnId, after } = request.frame;
    const { state, events } = await load(deps.log, turns, turnId);
    if (state.status === "none" || state.tenantId !== request.identity.tenantId) {
      throw new AxonError("turn_not_found", `There is no turn ${turnId}.`, { field: "turnId" });
    }
    request.log.add({ conversationId: state.conversationId, correlationId: state.correlationId });
    const stream = await streamPresence(deps, turnId);
    if (isTerminal(state) && !stream.exists) {
      // The log does not know where token `after` ends, so the answer is told from its start.
      if (after > 0) await request.answer({ type: "rewind", turnId, to: 0 });
      for (const frame of framesFromLog(events)) await request.answer(frame);
      return;
    }
    const from = Math.min(after, stream.lastSeq);
    if (from < after) await request.answer({ type: "rewind", turnId, to: from });
    await watchTurn(deps.redis, turnId, request.connectionId, from);
  });
}
