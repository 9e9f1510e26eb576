import type { ShardMessage, StreamEnd } from "../../events/redis-keys.ts";

/** This many of a turn's latest tokens are kept; whoever is further behind reads the stream. */
const tailTokens = 256;

/**
 * What a relay knows of one watched turn: the tail of its token stream, as the notifications brought
 * it, and its end. The stream itself is in Redis; a feed can be dropped and made anew at any time.
 */
export class Feed {
  readonly turnId: string;
  readonly watchers = new Map<string, Watcher>();
  end: StreamEnd | undefined;
  heardAt: number;
  #tail: string[] = [];
  /** Sequence number of the first token in the tail. */
  #tailFrom = 1;

  constructor(turnId: string, now: number) {
    this.turnId = turnId;
    this.heardAt = now;
  }

  /** The highest sequence number that this feed has heard of. */
  get lastSeq(): number {
    return this.end?.lastSeq ?? this.#tailFrom + this.#tail.length - 1;
  }

  hear({ from, texts }: Extract<ShardMessage, { kind: "tokens" }>): void {
    const next = this.#tailFrom + this.#tail.length;
    if (from > next) {
      // Notifications were lost. What lies between is in the stream.
      this.#tail = [...texts];
      this.#tailFrom = from;
    } else {
      this.#tail.push(...texts.slice(next - from));
    }
    const excess = this.#tail.length - tailTokens;
    if (excess > 0) {
      this.#tail.splice(0, excess);
      this.#tailFrom += excess;
    }
  }

  /** The texts after `seq`, if the tail reaches back that far. */
  after(seq: number): string[] | undefined {
    if (seq + 1 < this.#tailFrom) return undefined;
    const texts = this.#tail.slice(seq + 1 - this.#tailFrom);
    return texts.length === 0 ? undefined : texts;
  }
}

/** One connection that follows one turn. */
export interface Watcher {
  feed: Feed;
  connectionId: string;
  /** The last sequence number that was delivered. */
  sent: number;
  /** It has to read the stream before it can trust the notifications. */
  catchingUp: boolean;
  endSent: boolean;
  /** `sent` has moved since it was last written to Redis. */
  unsaved: boolean;
}
