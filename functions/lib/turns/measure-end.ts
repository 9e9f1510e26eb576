import type { DomainEvent } from "../../../events/event-catalog.ts";
import { objectives, refusedCodes } from "../../../events/objectives.ts";
import type { RequestLog } from "../request-log.ts";
import type { RequestedTurn } from "../streams.ts";

/**
 * Measures how a turn went, when it has ended: against what is promised, and by the revision that answered.
 * An event is written once, so a report that comes again is not measured again.
 */
export function measureEnd(event: DomainEvent, turn: RequestedTurn, log: RequestLog): void {
  if (event.type === "TurnFailed") log.measure("TurnFailed", refusedCodes.has(event.code) ? 0 : 1);
  if (event.type !== "TurnCompleted" && event.type !== "TurnCancelled") return;
  log.measure("TurnFailed", 0);
  const { timings, usage } = event;
  const { firstToken, interToken } = objectives;
  const { revision } = turn;
  log.measure("OutputTokens", usage.completionTokens, revision);
  if (usage.completionTokens === 0) return;
  const firstTokenMs = timings.queuedMs + timings.firstTokenMs;
  log.measure("TimeToFirstToken", firstTokenMs, revision);
  // Who asks for a batch has not been promised anything.
  if (turn.priority === "interactive") {
    log.measure("FirstTokenLate", firstTokenMs > firstToken.withinSeconds * 1_000 ? 1 : 0);
  }
  if (usage.completionTokens < 2) return;
  const generatingMs = Math.max(0, timings.totalMs - timings.firstTokenMs);
  const interTokenMs = generatingMs / (usage.completionTokens - 1);
  log.measure("InterTokenLatency", interTokenMs, revision);
  log.measure("InterTokenLate", interTokenMs > interToken.withinSeconds * 1_000 ? 1 : 0);
}
