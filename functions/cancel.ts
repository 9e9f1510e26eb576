import { cancelFrameSchema } from "../events/frames.ts";
import { cancelChannel, turnKey } from "../events/redis-keys.ts";
import { isTerminal, type TurnCommand } from "../events/turn.ts";
import type { Deps } from "./lib/deps.ts";
import { execute } from "./lib/execute.ts";
import { turnTtlSeconds } from "./lib/lifetimes.ts";
import { type SocketHandler, socketHandler } from "./lib/socket.ts";
import { turns } from "./lib/streams.ts";

/**
 * Records the wish that a turn ends, and tells its leader: at once by a message, and by the lease it
 * renews if the message is lost. The turn's `done` is the answer; a turn that has ended stays so.
 */
export function cancel(deps: Deps): SocketHandler {
  return socketHandler(deps, cancelFrameSchema, async ({ frame: { turnId }, identity, log }) => {
    const { state } = await execute(
      deps.log,
      turns,
      turnId,
      (): TurnCommand => ({
        type: "RequestCancel",
        at: deps.now(),
        turnId,
        tenantId: identity.tenantId,
        reason: "user",
      }),
    );
    if (state.status === "none" || isTerminal(state)) return;
    log.add({ conversationId: state.conversationId, correlationId: state.correlationId });
    // A wish that is in the log but never reached Redis is passed on by asking again.
    await deps.redis.hset(turnKey(turnId), "cancel", "user");
    await deps.redis.expire(turnKey(turnId), turnTtlSeconds, "NX");
    await deps.redis.publish(cancelChannel, turnId);
  });
}
