import { type Report, reportSchema } from "../events/jobs.ts";
import { isTerminal, type TurnCommand } from "../events/turn.ts";
import { admissionLimits, leave } from "./lib/admission/admission.ts";
import { type QueueHandler, queueHandler } from "./lib/batches.ts";
import { forgetTurn } from "./lib/data/forget-turn.ts";
import { database } from "./lib/database.ts";
import type { Deps } from "./lib/deps.ts";
import { eventLog } from "./lib/event-log.ts";
import { execute } from "./lib/execute.ts";
import { lambda } from "./lib/lambda.ts";
import { models } from "./lib/models.ts";
import { queues } from "./lib/queues.ts";
import { redis } from "./lib/redis.ts";
import { turns } from "./lib/streams.ts";
import { type JobDeps, sendReleased } from "./lib/turns/jobs.ts";
import { measureEnd } from "./lib/turns/measure-end.ts";

/**
 * Turns what leaders report into events, and sends the turns that have waited for a turn's end. Reports come at least once and may be late; the turn's
 * decider has nothing to say about those. What is no report, or is about no turn, fails until it
 * ends among the dead letters, where someone can look at it.
 */
export function report(deps: JobDeps & Pick<Deps, "now">): QueueHandler {
  return queueHandler(deps, async (body, log, span) => {
    const message = reportSchema.parse(JSON.parse(body));
    const { turnId, correlationId } = message;
    log.add({ turnId, correlationId });
    span?.set({ "axon.turn.id": turnId, "axon.report": message.type });
    const { state, events, commit } = await execute(deps.log, turns, turnId, () =>
      commandOf(message),
    );
    if (state.status !== "none") log.add({ tenantId: state.tenantId });
    log.measure("ReportLag", Math.max(0, deps.now() - message.at));
    if (state.status !== "none") for (const event of events) measureEnd(event, state, log);
    log.info("reported", { report: message.type, events: events.map((event) => event.type) });
    if (state.status === "none" || !isTerminal(state)) return;
    // Where this fails the report comes again: there is nothing to write then, and this is done at last.
    await sendReleased(deps, await leave(deps, state.revision, turnId), log);
    // Its conversation was erased while it ran: what the leader has said since then goes, too.
    const isErased = commit?.events.some((event) => "erased" in event) ?? false;
    if (state.erased || isErased) await forgetTurn(deps, turnId);
  });
}

/** What a report asks of its turn. */
export function commandOf(message: Report): TurnCommand {
  const { turnId, groupId, leaderId, epoch, at } = message;
  const runner = { turnId, groupId, leaderId, epoch, at };
  if (message.type === "started") {
    return { type: "ReportStarted", ...runner, emittedTokens: message.emittedTokens };
  }
  const { startedAt, text, usage, timings } = message;
  const ending = { ...runner, startedAt, text, usage, timings };
  switch (message.type) {
    case "completed":
      return { type: "ReportCompleted", ...ending, finishReason: message.finishReason };
    case "cancelled":
      return { type: "ReportCancelled", ...ending, reason: message.reason };
    case "failed":
      return { type: "ReportFailed", ...ending, code: message.code, message: message.message };
  }
}

export const handler = lambda(report, [eventLog, redis, queues, database, models, admissionLimits]);
