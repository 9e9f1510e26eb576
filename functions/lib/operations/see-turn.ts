import { AxonError } from "../../../events/errors.ts";
import { turnKey, turnSentKey } from "../../../events/redis-keys.ts";
import type { TurnEvent } from "../../../events/turn-events.ts";
import type { ObservedData, SeenTurn, TimelineEntry } from "../../../events/views.ts";
import type { Deps } from "../deps.ts";
import { load, type RequestedTurn, turns } from "../streams.ts";
import { type TurnOrigin, turnOrigin } from "../turns/turn-origin.ts";
import { omitTexts } from "./omit-texts.ts";
import type { Viewer } from "./operator.ts";

type TurnDeps = Pick<Deps, "log" | "redis" | "now">;

/** What only Redis knows of a turn, as long as it knows it; times are Unix ms. */
interface Traces {
  sentAt: number | undefined;
  startedAt: number | undefined;
  firstTokenAt: number | undefined;
  lastSeq: number | undefined;
}

/**
 * One turn, from its log, and from Redis what has not become an event.
 * @throws AxonError turn_not_found, also for another tenant's.
 */
export async function seeTurn(
  deps: TurnDeps,
  turnId: string,
  { tenantId }: Viewer,
): Promise<ObservedData["turn"]> {
  const { state, events } = await load(deps.log, turns, turnId);
  if (state.status === "none" || (tenantId !== undefined && state.tenantId !== tenantId)) {
    throw new AxonError("turn_not_found", `There is no turn ${turnId}.`, { field: "turnId" });
  }
  const [origin, traces] = await Promise.all([turnOrigin(deps, turnId), tracesOf(deps, turnId)]);
  const summary = summaryOf(state, events, origin, traces);
  const timeline = timelineOf(events, traces);
  return {
    ...summary,
    timeline,
    spent: spentOf(timeline, summary, deps.now()),
    ...{ runs: origin.runs, weights: [...origin.weights], rolloutId: origin.rolloutId },
    events: events.map((event) => omitTexts({ ...event })),
  };
}

async function tracesOf({ redis }: TurnDeps, turnId: string): Promise<Traces> {
  const [hash, sent] = await Promise.all([
    redis.hmget(turnKey(turnId), "startedAt", "firstTokenAt", "lastSeq"),
    redis.get(turnSentKey(turnId)),
  ]);
  const [startedAt, firstTokenAt, lastSeq] = hash.map(numberIn);
  const sentAt = numberIn(sent);
  // An older version has written that it was sent, and not when.
  return { sentAt: sentAt === 1 ? undefined : sentAt, startedAt, firstTokenAt, lastSeq };
}

const numberIn = (text: string | null): number | undefined =>
  text === null || text === "" ? undefined : Number(text);

const isEnd = (event: TurnEvent) =>
  event.type === "TurnCompleted" || event.type === "TurnCancelled" || event.type === "TurnFailed";

function summaryOf(
  state: RequestedTurn,
  events: readonly TurnEvent[],
  { runs }: TurnOrigin,
  traces: Traces,
): SeenTurn {
  const end = events.find(isEnd);
  const { turnId, tenantId, conversationId, model, revision, status, epoch, requestedAt } = state;
  return {
    ...{ turnId, tenantId, conversationId, model, revision, status, epoch, requestedAt },
    groupId: runs.at(-1)?.groupId ?? null,
    startedAt: runs[0]?.at ?? null,
    endedAt: end?.at ?? null,
    timings: end !== undefined && "timings" in end ? end.timings : null,
    usage: end?.usage ?? null,
    tokens: end?.usage.completionTokens ?? traces.lastSeq ?? runs.at(-1)?.emittedTokens ?? null,
    errorCode: end?.type === "TurnFailed" ? end.code : null,
  };
}

function timelineOf(events: readonly TurnEvent[], traces: Traces): TimelineEntry[] {
  const entries = events.map((event) => entryOf(event, events[0]?.at ?? 0));
  if (traces.sentAt !== undefined) entries.push({ at: traces.sentAt, what: "sent" });
  const firstToken = firstTokenOf(events, traces);
  if (firstToken !== undefined) entries.push({ at: firstToken, what: "first token", tokens: 1 });
  const order = new Map(inOrder.map((what, i) => [what, i]));
  const place = ({ what }: TimelineEntry) => order.get(what) ?? 0;
  return entries.sort((one, other) => one.at - other.at || place(one) - place(other));
}

/** What comes first within the same millisecond. */
const inOrder: TimelineEntry["what"][] = [
  ...(["requested", "sent", "claimed", "first token", "taken over"] as const),
  ...(["cancel requested", "completed", "cancelled", "failed"] as const),
];

/**
 * When a leader has claimed the turn: the claim's epoch is that time, by Redis's clock, unless an earlier claim
 * had a higher one. The event says when it was reported.
 */
function claimedAt({ at, epoch }: { at: number; epoch: number }, requestedAt: number): number {
  return epoch >= requestedAt && epoch <= at ? epoch : at;
}

function entryOf(event: TurnEvent, requestedAt: number): TimelineEntry {
  const { at } = event;
  switch (event.type) {
    case "TurnRequested":
      return { at, what: "requested" };
    case "TurnStarted": {
      const { groupId, leaderId, epoch } = event;
      return { at: claimedAt(event, requestedAt), what: "claimed", groupId, leaderId, epoch };
    }
    case "TurnTakenOver": {
      const { groupId, leaderId, epoch, emittedTokens: tokens } = event;
      const claimed = claimedAt(event, requestedAt);
      return { at: claimed, what: "taken over", groupId, leaderId, epoch, tokens };
    }
    case "TurnCancelRequested":
      return { at, what: "cancel requested" };
    case "TurnCompleted":
      return { at, what: "completed", epoch: event.epoch, tokens: event.usage.completionTokens };
    case "TurnCancelled":
      return { at, what: "cancelled", epoch: event.epoch, tokens: event.usage.completionTokens };
    case "TurnFailed":
      return { at, what: "failed", epoch: event.epoch, tokens: event.usage.completionTokens };
  }
}

/** As Redis has noted it, else as the report's timings say: they count from the first claim. */
function firstTokenOf(events: readonly TurnEvent[], traces: Traces): number | undefined {
  if (traces.firstTokenAt !== undefined) return traces.firstTokenAt;
  const started = events.find((event) => event.type === "TurnStarted");
  const end = events.find(isEnd);
  if (started === undefined || end === undefined || !("timings" in end)) return undefined;
  return end.usage.completionTokens === 0
    ? undefined
    : claimedAt(started, events[0]?.at ?? 0) + end.timings.firstTokenMs;
}

function spentOf(
  timeline: readonly TimelineEntry[],
  { requestedAt, endedAt }: SeenTurn,
  now: number,
): ObservedData["turn"]["spent"] {
  const claimed = timeline.find(({ what }) => what === "claimed")?.at;
  if (claimed === undefined) return null;
  const first = timeline.find(({ what }) => what === "first token")?.at;
  // The clocks are of several machines.
  const between = (from: number, to: number) => Math.max(0, to - from);
  return {
    queuedMs: between(requestedAt, claimed),
    firstTokenMs: first === undefined ? null : between(claimed, first),
    generatingMs: first === undefined ? null : between(first, endedAt ?? now),
  };
}
