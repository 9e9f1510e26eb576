import { AxonError } from "../events/errors.ts";
import { operateFrameSchema } from "../events/observations.ts";
import type { Operation } from "../events/operations.ts";
import { connections } from "./lib/connections.ts";
import { database } from "./lib/database.ts";
import { eventFacts } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { refuseTooLarge } from "./lib/operations/answer-size.ts";
import { type OperatorDeps, stageFacts } from "./lib/operations/operator.ts";
import { runOperation } from "./lib/operations/run-operation.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import { type AnswerDeps, type SocketHandler, socketHandler } from "./lib/socket.ts";

/** Does what an operator asks over the WebSocket, in the operator's own name. */
export function operate(deps: OperatorDeps & AnswerDeps): SocketHandler {
  return socketHandler(
    deps,
    { schema: operateFrameSchema, scope: "ops:write" },
    async ({ frame, identity, invocationId, log, answer }) => {
      const { tenantId, userId } = identity;
      const errand = { tenantId, invocationId, log };
      const outcome = await runOperation(deps, inNameOf(userId, frame.operation), errand);
      const { requestId } = frame;
      const done = { type: "operated", requestId, answer: { ...outcome } } as const;
      // Whatever was to be done is done all the same.
      refuseTooLarge(done, { field: "operation", what: "is done; what came of it" });
      await answer(done);
    },
  );
}

/** @throws AxonError invalid_field for what has a frame of its own. */
function inNameOf(userId: string, operation: Operation): Operation {
  if (operation.command === "observe") {
    throw new AxonError("invalid_field", "operation.command: use the frame `observe`.", {
      field: "operation.command",
    });
  }
  return "by" in operation ? { ...operation, by: userId } : operation;
}

export const handler = lambda(operate, [
  ...[eventFacts, redis, queues, database],
  ...[models, stageFacts, connections],
]);
