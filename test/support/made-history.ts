import { randomUUID } from "node:crypto";
import type { DomainEvent } from "../../events/event-catalog.ts";
import {
  conversationStream,
  type EventLog,
  rolloutStream,
  turnStream,
} from "../../events/event-log.ts";

const usage = { promptTokens: 12, completionTokens: 34 };
const timings = { queuedMs: 1.5, firstTokenMs: 20, totalMs: 340 };
const turnsPerConversation = 4;

/** @returns how many events there are, and the conversations' ids. */
export interface MadeHistory {
  events: number;
  conversationIds: string[];
}

/**
 * Writes what so many turns leave behind: asked, started, some taken over or cancelled, ended in each way, the
 * last ones open; some commits with two events, and now and then a rollout's.
 */
export async function writeHistory(
  log: EventLog,
  { turns, sideBySide = 1 }: { turns: number; sideBySide?: number },
): Promise<MadeHistory> {
  let events = 0;
  const conversationIds: string[] = [];
  const counting: EventLog = {
    ...log,
    append(stream, version, some) {
      events += some.length;
      return log.append(stream, version, some);
    },
  };
  const waiting = Array.from({ length: Math.ceil(turns / turnsPerConversation) }, (_, i) => i);
  async function writeEach(): Promise<void> {
    for (let i = waiting.shift(); i !== undefined; i = waiting.shift()) {
      const most = Math.min(turnsPerConversation, turns - i * turnsPerConversation);
      conversationIds.push(await writeConversation(counting, i, most));
    }
  }
  await Promise.all(Array.from({ length: sideBySide }, writeEach));
  return { events, conversationIds };
}

async function writeConversation(log: EventLog, index: number, turns: number): Promise<string> {
  const conversationId = `conv_${randomUUID()}`;
  const stream = conversationStream(conversationId);
  const tenantId = `tenant-${index % 3}`;
  const about = { version: 1, conversationId } as const;
  for (let ordinal = 1; ordinal <= turns; ordinal++) {
    const turnId = `turn_${randomUUID()}`;
    const at = Date.now();
    const added: DomainEvent = { type: "TurnAdded", ...about, at, turnId, ordinal };
    const title = `Conversation ${index}`;
    const started: DomainEvent = { type: "ConversationStarted", ...about, at, tenantId, title };
    await log.append(stream, ordinal - 1, ordinal === 1 ? [started, added] : [added]);
    await writeTurn(log, { turnId, conversationId, tenantId }, index + ordinal);
  }
  if (index % 10 === 0) await writeRollout(log, index);
  return conversationId;
}

async function writeTurn(
  log: EventLog,
  names: { turnId: string; conversationId: string; tenantId: string },
  kind: number,
): Promise<void> {
  const { turnId } = names;
  const about = { version: 1, at: Date.now(), turnId } as const;
  const runner = { groupId: "g", leaderId: `leader-${kind % 5}` };
  const requested: DomainEvent = {
    ...{ type: "TurnRequested", ...about, ...names, model: "m", revision: `m-${kind % 2}` },
    prompt: `What is ${kind}? `.repeat(1 + (kind % 9)),
    sampling: {
      ...{ maxTokens: 64, temperature: 0.7, topK: 10, topP: 0.9, minP: 0 },
      ...{ repetitionPenalty: 1, stop: kind % 4 === 0 ? ["Stop:"] : [], seed: kind },
    },
    ...{ priority: "interactive", correlationId: `correlation-${kind}` },
  };
  const ran: DomainEvent = { type: "TurnStarted", ...about, ...runner, epoch: 1 };
  const taken: DomainEvent = {
    ...{ type: "TurnTakenOver", ...about, ...runner, epoch: 2, emittedTokens: 3 },
  };
  const wish: DomainEvent = { type: "TurnCancelRequested", ...about, reason: "user" };
  const text = `It is ${kind}, with a \u0000 in it. `.repeat(1 + (kind % 20));
  const end = { ...about, epoch: 2, text, usage };
  const ends: DomainEvent[] = [
    { type: "TurnCompleted", ...end, finishReason: "stop", timings },
    { type: "TurnCancelled", ...end, timings },
    { type: "TurnFailed", ...end, code: "engine", message: "It broke." },
  ];
  const ending = ends[kind % 3];
  const commits: DomainEvent[][] = [[requested], [ran]];
  if (kind % 6 === 0) commits.push([taken]);
  if (kind % 3 === 1) commits.push([wish]);
  if (kind % 7 !== 0 && ending !== undefined) commits.push([ending]);
  for (const [version, events] of commits.entries()) {
    await log.append(turnStream(turnId), version, events);
  }
}

async function writeRollout(log: EventLog, index: number): Promise<void> {
  const model = `model-${index}`;
  const stream = rolloutStream(model);
  if ((await log.read(stream)).length > 0) return;
  const about = { version: 1, at: Date.now(), model, rolloutId: "r" } as const;
  await log.append(stream, 0, [
    { type: "RequestRejected", ...about, source: "a test", reason: "It is none." },
  ]);
}
