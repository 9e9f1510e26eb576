import { cancelFrameSchema } from "../events/frames.ts";
import { admissionLimits } from "./lib/admission/admission.ts";
import { connections } from "./lib/connections.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import { type SocketDeps, type SocketHandler, socketHandler } from "./lib/socket.ts";
import { cancelTurn } from "./lib/turns/cancel-turn.ts";
import type { JobDeps } from "./lib/turns/jobs.ts";

/** Records the wish that a turn ends. The turn's `done` is the answer. */
export function cancel(deps: SocketDeps & JobDeps & Pick<Deps, "now">): SocketHandler {
  return socketHandler(
    deps,
    { schema: cancelFrameSchema, scope: "chat" },
    ({ frame: { turnId }, identity: { tenantId }, log }) =>
      cancelTurn(deps, { turnId, tenantId }, log),
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
