import { admissionLimits } from "./lib/admission/admission.ts";
import { type TableStreamHandler, tableStreamHandler } from "./lib/batches.ts";
import { type EraseDeps, eraseConversation } from "./lib/data/erase-conversation.ts";
import { erasers } from "./lib/data/erasers.ts";
import { database } from "./lib/database.ts";
import { eventLog } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";

/**
 * Does what a conversation's erasure asks for, once it is in the log. Whoever has put it there may have done all
 * of it already, or have died on the way: each step can be done again.
 */
export function erase(deps: EraseDeps): TableStreamHandler {
  return tableStreamHandler(deps, async ({ events }, log) => {
    for (const event of events) {
      if (event.type !== "ConversationErased") continue;
      const { conversationId } = event;
      // Others of the batch wait for this one: it does not wait for a leader.
      await eraseConversation(deps, { conversationId, until: deps.now() }, log);
    }
  });
}

export const handler = lambda(erase, [
  eventLog,
  erasers,
  redis,
  queues,
  database,
  models,
  admissionLimits,
]);
