import { cancelChannel, turnKey } from "../../../events/redis-keys.ts";
import { isTerminal, type TurnCommand } from "../../../events/turn.ts";
import { release, withdraw } from "../admission/admission.ts";
import type { Deps } from "../deps.ts";
import { execute } from "../execute.ts";
import { turnTtlSeconds } from "../lifetimes.ts";
import type { RequestLog } from "../request-log.ts";
import { type RequestedTurn, turns } from "../streams.ts";
import { type JobDeps, sendReleased } from "./jobs.ts";
import { sealUnclaimed } from "./seal-unclaimed.ts";

/**
 * Records the wish that a turn ends, and tells its leader: at once by a message, and by the lease it
 * renews if the message is lost. A turn that admission holds has no leader: it is taken out and ended here.
 * A turn that has ended stays so.
 * @throws AxonError turn_not_found where the tenant has no such turn
 */
export async function cancelTurn(
  deps: JobDeps & Pick<Deps, "now">,
  { turnId, tenantId }: { turnId: string; tenantId: string },
  log: RequestLog,
): Promise<void> {
  const { state } = await execute(
    deps.log,
    turns,
    turnId,
    (): TurnCommand => ({
      type: "RequestCancel",
      at: deps.now(),
      turnId,
      tenantId,
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
