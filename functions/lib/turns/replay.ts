import type { DoneFrame, ServerFrame, TokensFrame } from "../../../events/frames.ts";
import { turnKey, turnTokensKey } from "../../../events/redis-keys.ts";
import { isTerminal, type TurnState } from "../../../events/turn.ts";
import type { TurnEvent } from "../../../events/turn-events.ts";
import type { Deps } from "../deps.ts";

/** A turn's token stream, as far as the functions need to know it. */
export interface StreamPresence {
  exists: boolean;
  sealed: boolean;
  /** The last sequence number in it; 0 without one. */
  lastSeq: number;
  /** That of its latest claim. */
  epoch: number;
}

export async function streamPresence(
  { redis }: Pick<Deps, "redis">,
  turnId: string,
): Promise<StreamPresence> {
  const [entries, [lastSeq, sealed, epoch]] = await Promise.all([
    redis.exists(turnTokensKey(turnId)),
    redis.hmget(turnKey(turnId), "lastSeq", "sealed", "epoch"),
  ]);
  // The sequence numbers of a lost stream mean nothing any more.
  const exists = entries === 1;
  return {
    exists,
    sealed: exists && sealed !== null,
    lastSeq: exists ? Number(lastSeq ?? 0) : 0,
    epoch: Number(epoch ?? 0),
  };
}

/**
 * Whether a turn's stream may be told to its end. Of a turn that has ended in the log it is told only when
 * it exists and has no other ending.
 */
export function tellsTheRecord(state: TurnState, stream: StreamPresence): boolean {
  if (state.status === "none" || !isTerminal(state)) return true;
  return stream.exists && (!stream.sealed || stream.epoch === state.epoch);
}

/** An answer that is told from the log names no leader. */
const epoch = 0;

/** The answer of a turn whose stream has expired, by its log: `tokens` frames and `done`. */
export function framesFromLog(events: readonly TurnEvent[]): ServerFrame[] {
  const done = doneFromLog(events);
  const ending = events.at(-1);
  if (done === undefined || ending === undefined || !("text" in ending)) return [];
  return [...tokensFrames(done.turnId, ending.text, 1, done.lastSeq), done];
}

/** JSON bytes of one frame's text; API Gateway takes messages of 128 KB. */
const frameTextBytes = 100_000;

/**
 * The log has an answer's text and the number of its tokens, but not where each of them ends. Where
 * the text is too long for one frame, both are halved; what counts is that the numbers join up.
 */
function tokensFrames(turnId: string, text: string, from: number, to: number): TokensFrame[] {
  if (to < from) return [];
  if (from === to || Buffer.byteLength(JSON.stringify(text)) <= frameTextBytes) {
    return [{ type: "tokens", turnId, from, to, text, epoch }];
  }
  const half = from + Math.floor((to - from) / 2);
  const characters = [...text];
  const cut = Math.ceil(characters.length / 2);
  return [
    ...tokensFrames(turnId, characters.slice(0, cut).join(""), from, half),
    ...tokensFrames(turnId, characters.slice(cut).join(""), half + 1, to),
  ];
}

/** The last frame of a turn that has ended, by its log. */
export function doneFromLog(events: readonly TurnEvent[]): DoneFrame | undefined {
  const ending = events.at(-1);
  switch (ending?.type) {
    case "TurnCompleted":
    case "TurnCancelled": {
      const { turnId, usage, timings } = ending;
      const finishReason = ending.type === "TurnCompleted" ? ending.finishReason : "cancelled";
      const lastSeq = usage.completionTokens;
      return { type: "done", turnId, lastSeq, epoch, finishReason, usage, timings };
    }
    case "TurnFailed": {
      const { turnId, usage, code, message, at } = ending;
      const requestedAt = events.find((event) => event.type === "TurnRequested")?.at ?? at;
      const startedAt = events.find((event) => event.type === "TurnStarted")?.at ?? at;
      const timings = {
        queuedMs: Math.max(0, startedAt - requestedAt),
        // A failure does not record it.
        firstTokenMs: 0,
        totalMs: Math.max(0, at - startedAt),
      };
      const lastSeq = usage.completionTokens;
      const error = { code, message };
      const end = { lastSeq, epoch, finishReason: "failed", usage, timings, error } as const;
      return { type: "done", turnId, ...end };
    }
    default:
      return undefined;
  }
}
