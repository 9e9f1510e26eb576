import type { StreamEnd, TurnMessage } from "../../events/redis-keys.ts";
import type { DeliveryTrace } from "./delivery-tracer.ts";

/** This many of a turn's latest tokens are kept; whoever is further behind reads the stream. */
const tailTokens = 256;

/** A token as a watcher gets it. */
export interface SaidToken {
  text: string;
  /** Of the leader that wrote it. */
  epoch: number;
  /** When the notification came, by the relay's own clock; unknown of what was read from the stream. */
  heardAt?: number | undefined;
}

/**
 * What a relay knows of one watched turn: the tail of its token stream, as the notifications brought
 * it, and its end. The stream itself is in Redis; a feed can be dropped and made anew at any time.
 */
export class Feed {
  readonly turnId: string;
  readonly watchers = new Map<string, Watcher>();
  /** Resolves when notifications of the turn reach us: what the stream lacks after it, they bring. */
  readonly listening: Promise<void>;
  isListening = false;
  end: StreamEnd | undefined;
  heardAt: number;
  /** The highest epoch of which anything was seen. */
  epoch = 0;
  #tail: SaidToken[] = [];
  /** Sequence number of the first token in the tail. */
  #tailFrom = 1;

  constructor(turnId: string, listening: Promise<void>, now: number) {
    this.turnId = turnId;
    this.heardAt = now;
    this.listening = listening.then(() => {
      this.isListening = true;
    });
    // Whoever waits for it hears of a failure.
    this.listening.catch(() => {});
  }

  /** The highest sequence number that this feed has heard of. */
  get lastSeq(): number {
    return this.end?.lastSeq ?? this.#tailFrom + this.#tail.length - 1;
  }

  hear(message: TurnMessage, heardAt?: number): void {
    this.noteEpoch(message.epoch);
    if (message.kind === "end") {
      this.end = message.end;
      return;
    }
    const { from, epoch, texts } = message;
    const next = this.#tailFrom + this.#tail.length;
    const isNewer = epoch > (this.#tail.at(-1)?.epoch ?? 0);
    if (isNewer || from > next) {
      // A new leader goes on after the tokens that it has found, which need not be all of these; and what it
      // said first may have been lost on the way. Notifications were lost also where a gap shows.
      this.#tail = texts.map((text) => ({ text, epoch, heardAt }));
      this.#tailFrom = from;
    } else if (from < this.#tailFrom) {
      return;
    } else {
      const known = this.#tailFrom + this.#tail.length - from;
      for (const text of texts.slice(known)) this.#tail.push({ text, epoch, heardAt });
    }
    const excess = this.#tail.length - tailTokens;
    if (excess > 0) {
      this.#tail.splice(0, excess);
      this.#tailFrom += excess;
    }
  }

  noteEpoch(epoch: number): void {
    if (epoch > this.epoch) this.epoch = epoch;
  }

  /** The tokens after `seq`, if the tail reaches back that far. */
  after(seq: number): SaidToken[] | undefined {
    if (seq + 1 < this.#tailFrom) return undefined;
    const tokens = this.#tail.slice(seq + 1 - this.#tailFrom);
    return tokens.length === 0 ? undefined : tokens;
  }
}

/** One connection that follows one turn. */
export interface Watcher {
  feed: Feed;
  connectionId: string;
  /** The last sequence number that was delivered, and the epoch of that token; 0 where it is unknown. */
  sent: number;
  epoch: number;
  /** Up to this epoch of the feed, what was delivered is known to be in the stream. */
  checkedEpoch: number;
  /** It has to read the stream before it can trust the notifications. */
  catchingUp: boolean;
  /** Tokens up to this one were heard of and are not in the stream: they are not looked for again. */
  missing: number;
  endSent: boolean;
  /** When it last asked, or was sent something. */
  servedAt: number;
  /** `sent` has moved since it was last written to Redis. */
  unsaved: boolean;
  /** Only where deliveries are traced. */
  trace?: DeliveryTrace | undefined;
}

/** Something arrived after the last look. */
export function hasNews(watcher: Watcher): boolean {
  const { feed, sent, catchingUp, missing, endSent } = watcher;
  if (catchingUp || mayBeCut(watcher)) return true;
  if (sent < feed.lastSeq) return feed.lastSeq !== missing;
  return feed.end !== undefined && !endSent;
}

/**
 * Another leader has written since: where Redis had lost tokens before it came, it has written others in
 * their place.
 */
export function mayBeCut({ feed, sent, epoch, checkedEpoch }: Watcher): boolean {
  return sent > 0 && epoch > 0 && feed.epoch > Math.max(epoch, checkedEpoch);
}
