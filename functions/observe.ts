import { type ObservedFrame, observeFrameSchema } from "../events/observations.ts";
import { connections } from "./lib/connections.ts";
import { database } from "./lib/database.ts";
import { eventFacts } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { refuseTooLarge } from "./lib/operations/answer-size.ts";
import { noteObserver } from "./lib/operations/observers.ts";
import { type OperatorDeps, stageFacts } from "./lib/operations/operator.ts";
import { see } from "./lib/operations/see.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import { type AnswerDeps, type SocketHandler, socketHandler } from "./lib/socket.ts";

/**
 * Shows a view to an operator of a tenant: its own turns and conversations, and what is of the whole deployment.
 * From then on the connection hears for a minute when the log has grown.
 */
export function observe(deps: OperatorDeps & AnswerDeps): SocketHandler {
  return socketHandler(
    deps,
    { schema: observeFrameSchema, scope: "ops:read" },
    async ({ frame, identity, connectionId, answer }) => {
      const { tenantId } = identity;
      const { action: _, requestId, ...question } = frame;
      // First, so that what is written after the look is heard of.
      await noteObserver(deps, connectionId, tenantId);
      const at = deps.now();
      // Of all, but of the deployment's own figures, a tenant sees its own.
      const data = await see(deps, question, {
        tenantId: isOfAll(question.view) ? undefined : tenantId,
      });
      const shown = { type: "observed", requestId, view: question.view, at, data } as ObservedFrame;
      refuseTooLarge(shown, { field: "view", what: "what there is to see" });
      await answer(shown);
    },
  );
}

/** Figures of the whole deployment, which name nobody. */
const isOfAll = (view: string): boolean => view === "overview" || view === "series";

export const handler = lambda(observe, [
  ...[eventFacts, redis, queues, database],
  ...[models, stageFacts, connections],
]);
