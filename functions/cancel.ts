import { cancelFrameSchema } from "../events/frames.ts";
import { cancelChannel, turnKey } from "../events/redis-keys.ts";
import { isTerminal, type TurnCommand } from "../events/turn.ts";
import { admissionLimits, release, withdraw } from "./lib/admission.ts";
import { connections } from "./lib/connections.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { execute } from "./lib/execute.ts";
import { type JobDeps, sendReleased } from "./lib/jobs.ts";
import { lambda } from "./lib/lambda.ts";
import { turnTtlSeconds } from "./lib/lifetimes.ts";
import { models } from "./lib/models.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import { sealUnclaimed } from "./lib/seal-unclaimed.ts";
import { type SocketDeps, type SocketHandler, socketHandler } from "./lib/socket.ts";
import { type RequestedTurn, turns } from "./lib/streams.ts";

/**
 * Records the wish that a turn ends, and tells its leader: at once by a message, and by the lease it
 * renews if the message is lost. A turn that admission holds has no leader: it is taken out and ended here.
 * The turn's `done` is the answer; a turn that has ended stays so.
 */
export function cancel(deps: SocketDeps & JobDeps & Pick<Deps, "now">): SocketHandler {
  return socketHandler(
    deps,
    { schema: cancelFrameSchema, scope: "chat" },
    async ({ frame: { turnId }, identity, log }) => {
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
      if (!(await withdraw(deps, state.revision, turnId))) return;
      await endHeld(deps, state);
      await sendReleased(deps, await release(deps, state.revision), log);
    },
  );
}

/**
 * Ends a turn whose job was not sent. The stream comes first: nobody can claim the turn after it. If this
 * breaks off, the sweep takes the turn for one that was never admitted, and its leader finds the wish, or
 * the end, and reports it.
 */
async function endHeld(
  deps: Pick<Deps, "log" | "redis" | "now">,
  turn: RequestedTurn,
): Promise<void> {
  const { turnId } = turn;
  const at = deps.now();
  const epoch = await sealUnclaimed(deps.redis, turn, at);
  if (epoch === undefined) return;
  await execute(
    deps.log,
    turns,
    turnId,
    (): TurnCommand => ({ type: "EndUnclaimed", at, turnId, epoch }),
  );
}

export const handler = lambda(cancel, [
  eventLog,
  redis,
  queues,
  database,
  models,
  admissionLimits,
  connections,
]);
