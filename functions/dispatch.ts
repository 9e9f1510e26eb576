import { setTimeout as sleep } from "node:timers/promises";
import { admissionLimits, confirm } from "./lib/admission/admission.ts";
import { type TableStreamHandler, tableStreamHandler } from "./lib/batches.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import { wakeUp } from "./lib/rollout/wake-up.ts";
import { inTurnTrace } from "./lib/turn-span.ts";
import { type JobDeps, sendMissingJob, wasSent } from "./lib/turns/jobs.ts";

/** `chat` gets this long to send the job itself, which it does right after the append. */
const chatHeadStartMs = 1_000;
/** Later, only the manager's tick wakes a revision, by the turns that are open. */
const wakeWithinMs = 300_000;

const outboxSpan = {
  name: "dispatch",
  kind: "consumer",
  attributes: { "faas.trigger": "datasource" },
} as const;

/**
 * The outbox: a turn that was requested and whose job was never sent is sent now, unless admission holds
 * it. A backlog is older than the head start, so nothing waits when there is much to do. A turn of a revision
 * that sleeps wakes it.
 */
export function dispatch(deps: JobDeps & Pick<Deps, "now">): TableStreamHandler {
  return tableStreamHandler(deps, async ({ events }, log) => {
    for (const event of events) {
      if (event.type !== "TurnRequested") continue;
      const { turnId, revision, tenantId, conversationId, correlationId, at } = event;
      log.add({ turnId, tenantId, conversationId, correlationId });
      // One that the log tells of anew, after its group has gone to rest, has long been answered.
      if (deps.now() - at < wakeWithinMs) await wakeUp(deps, event, log);
      if (await wasSent(deps, turnId)) continue;
      if ((await confirm(deps, revision, turnId)) === "held") continue;
      await sleep(Math.min(chatHeadStartMs, Math.max(0, at + chatHeadStartMs - deps.now())));
      const outcome = await inTurnTrace(deps, turnId, outboxSpan, log, async (span) => {
        const found = await sendMissingJob(deps, event, log);
        span?.set({ "axon.turn.id": turnId, "axon.outcome": found });
        return found;
      });
      if (outcome === "sent") log.info("the outbox sent a job");
    }
  });
}

export const handler = lambda(dispatch, [
  eventLog,
  redis,
  queues,
  database,
  models,
  admissionLimits,
]);
