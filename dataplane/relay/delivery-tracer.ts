import type { ServerFrame } from "../../events/frames.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import type { Tracing } from "../../events/tracing/tracing.ts";
import { turnTraceOf } from "../../events/tracing/turn-trace.ts";

/** A silence between two frames that is worth an event of its own. */
const gapMs = 1_000;
/** Such events of one delivery, at most. */
const mostGaps = 20;

/**
 * The span of what one connection is sent of one turn. It is a child of the request, as the answer is to it,
 * with a link to the leader's latest claim. Whether the turn is traced is looked up when the delivery ends:
 * until then frames are only counted, and none waits for it.
 */
export class DeliveryTracer {
  readonly #tracing: Tracing;
  readonly #redis: RedisClient;
  readonly #ending = new Set<Promise<void>>();

  constructor(tracing: Tracing, redis: RedisClient) {
    this.#tracing = tracing;
    this.#redis = redis;
  }

  begin(turnId: string, connectionId: string): DeliveryTrace {
    return new DeliveryTrace((trace, outcome) => {
      const ending = this.#record(turnId, connectionId, trace, outcome);
      this.#ending.add(ending);
      void ending.then(() => this.#ending.delete(ending));
    });
  }

  /** Resolves when every delivery that has ended is a span. */
  async settled(): Promise<void> {
    await Promise.all(this.#ending);
  }

  async #record(
    turnId: string,
    connectionId: string,
    trace: DeliveryTrace,
    outcome: string,
  ): Promise<void> {
    const endedAt = Date.now();
    const { asked: parent, leader } = await turnTraceOf(this.#redis, turnId);
    if (parent === undefined) return;
    const span = this.#tracing.start("deliver", {
      ...{ kind: "internal", parent, startedAt: trace.startedAt },
      links: leader === undefined ? [] : [leader],
      attributes: {
        ...{ "axon.turn.id": turnId, "axon.connection.id": connectionId },
        ...{ "axon.outcome": outcome, "axon.frames": trace.frames, "axon.tokens": trace.tokens },
        ...{ "axon.rewinds": trace.rewinds, "axon.longest_gap_ms": trace.longestGapMs },
      },
    });
    if (trace.firstAt > 0) span.event("first frame", {}, trace.firstAt);
    for (const { at, ms } of trace.gaps) span.event("gap", { "axon.ms": ms }, at);
    if (trace.lastAt > 0) span.event("last frame", {}, trace.lastAt);
    if (outcome === "gone") span.fail("connection_gone");
    span.end(endedAt);
  }
}

/** Counts what a connection is sent of a turn. */
export class DeliveryTrace {
  readonly startedAt = Date.now();
  frames = 0;
  tokens = 0;
  rewinds = 0;
  /** Unix ms of the first and the last frame that was delivered; 0 before. */
  firstAt = 0;
  lastAt = 0;
  longestGapMs = 0;
  readonly gaps: { at: number; ms: number }[] = [];
  readonly #onEnd: (trace: DeliveryTrace, outcome: string) => void;
  #hasEnded = false;

  constructor(onEnd: (trace: DeliveryTrace, outcome: string) => void) {
    this.#onEnd = onEnd;
  }

  delivered(frame: ServerFrame): void {
    const now = Date.now();
    if (this.frames++ === 0) this.firstAt = now;
    else {
      const ms = now - this.lastAt;
      if (ms > this.longestGapMs) this.longestGapMs = ms;
      if (ms >= gapMs && this.gaps.length < mostGaps) this.gaps.push({ at: now, ms });
    }
    this.lastAt = now;
    if (frame.type === "tokens") this.tokens += frame.to - frame.from + 1;
    else if (frame.type === "rewind") this.rewinds++;
  }

  /** `done`; `gone`: the connection; `handed over`: another relay goes on. */
  end(outcome: "done" | "gone" | "left" | "handed over"): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#onEnd(this, outcome);
  }
}
