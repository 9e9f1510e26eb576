import type { RedisClient } from "../redis-client.ts";
import { turnTraceKey } from "../redis-keys.ts";
import { parseTraceparent, type TraceContext, traceparentOf } from "./trace-context.ts";

/**
 * The trace of a turn, in Redis beside the turn: a turn goes on in processes that no message reaches, as when
 * its leader dies, its job is sent again by the clock, or another relay delivers it. It stands apart from the
 * job and the events, whose readers of other versions refuse fields that they do not know; where Redis loses
 * it, a trace ends early, and nothing else does. Turns that are not sampled have none.
 */
export interface TurnTrace {
  /** The request for it. */
  asked?: TraceContext | undefined;
  /** The latest sending of its job. */
  job?: TraceContext | undefined;
  /** The latest claim. */
  leader?: TraceContext | undefined;
}

/** As long as a turn's other keys. */
const ttlSeconds = 24 * 3_600;

/** Notes spans of a turn. What cannot be noted is no failure of whoever wanted to. */
export async function noteTurnTrace(
  redis: RedisClient,
  turnId: string,
  { asked, job, leader }: TurnTrace,
): Promise<void> {
  const spans = Object.entries({ asked, job, leader }).flatMap(([name, span]) =>
    span?.isSampled ? [[name, traceparentOf(span)] as const] : [],
  );
  if (spans.length === 0) return;
  const key = turnTraceKey(turnId);
  await redis
    .multi()
    .hset(key, Object.fromEntries(spans))
    .expire(key, ttlSeconds)
    .exec()
    .catch(() => {});
}

/** @returns nothing of a turn that is not traced, or while Redis is away. */
export async function turnTraceOf(redis: RedisClient, turnId: string): Promise<TurnTrace> {
  const fields = await redis.hgetall(turnTraceKey(turnId)).catch(() => ({}) as TraceFields);
  const { asked, job, leader }: TraceFields = fields;
  return {
    asked: parseTraceparent(asked),
    job: parseTraceparent(job),
    leader: parseTraceparent(leader),
  };
}

type TraceFields = { asked?: string; job?: string; leader?: string };
