import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "@aws-lambda-powertools/logger";
import type { ServerFrame } from "../../events/frames.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import {
  relayOf,
  relayShardOf,
  type TurnMessage,
  turnTokensKey,
  type WatcherProgress,
  type WatchMessage,
} from "../../events/redis-keys.ts";
import { backoffMs } from "../backoff.ts";
import { classify } from "../errors.ts";
import type { RelayMeter } from "../metrics/relay-meter.ts";
import { readEntries } from "../token-stream.ts";
import type { Connections } from "./connections.ts";
import type { DeliveryTracer } from "./delivery-tracer.ts";
import { Feed, hasNews, mayBeCut, type SaidToken, type Watcher } from "./feed.ts";
import type { WatchRecord } from "./watch-record.ts";

export interface DeliveryDeps {
  redis: RedisClient;
  connections: Connections;
  logger: Logger;
  now: () => number;
  /** Where nothing is traced there is none. */
  tracer?: DeliveryTracer | undefined;
  meter?: RelayMeter | undefined;
}

/** The way to the notifications of turns. */
export interface TurnChannels {
  /** Resolves when what is said from now on will be heard. */
  listen(turnId: string): Promise<void>;
  leave(turnId: string): void;
}

/** One connection, and the turns it waits for. */
interface Line {
  connectionId: string;
  busy: boolean;
  /** Round robin: who was served goes to the end. */
  watchers: Set<Watcher>;
}

/** What a watcher is sent next, and how far that brings it. */
interface NextFrame {
  watcher: Watcher;
  frame: Extract<ServerFrame, { type: "tokens" | "rewind" | "done" }>;
  sent: number;
  epoch: number;
  ends: boolean;
  /** When its first token was heard of, if it was. */
  heardAt?: number | undefined;
}

/** Tokens read from the stream at once. Their text stays far below a message's 128 KB. */
const readTokens = 512;
/** Tokens looked at in one step back, where the stream may have been cut. */
const cutTokens = 64;
/** After a failed read of a stream. */
const rereadMs = 500;
/**
 * A client asks again about a turn that says nothing, at most 80 s after the last time. Who does not is
 * gone, or has the answer from elsewhere, and would be remembered for ever where the stream is lost.
 */
const forgottenMs = 120_000;
/** A connection that cannot be reached is given up after so many failed calls in a row. */
const mostFailures = 30;

/**
 * Carries token streams to connections. Each connection has one call in flight at most; whatever its
 * turns say meanwhile goes out joined in the next call, the turns taking their turn. So the first
 * token leaves at once, a fast connection gets small frames, a slow one large ones, and nobody waits
 * for anybody else. What arrives in one reading from Redis leaves together too: the busier this
 * process, the fewer and larger its frames.
 *
 * Of what a connection has yet to get, only the feed's tail is in memory; the stream has the rest.
 */
export class Delivery {
  readonly #deps: DeliveryDeps;
  readonly #channels: TurnChannels;
  readonly #record: WatchRecord;
  readonly #feeds = new Map<string, Feed>();
  readonly #lines = new Map<string, Line>();
  readonly #ready = new Set<Line>();

  constructor(deps: DeliveryDeps, channels: TurnChannels, record: WatchRecord) {
    this.#deps = deps;
    this.#channels = channels;
    this.#record = record;
  }

  hearTurn(message: TurnMessage): void {
    const feed = this.#feeds.get(message.turnId);
    if (feed === undefined) return;
    feed.heardAt = this.#deps.now();
    feed.hear(message, this.#deps.meter?.clock());
    this.#pumpAll(feed);
  }

  hearWatch(message: WatchMessage): void {
    if (message.kind === "gone") this.forget(message.connectionId);
    else this.watch(message.turnId, message.connectionId, message);
  }

  watch(turnId: string, connectionId: string, has: WatcherProgress): void {
    const feed = this.#feeds.get(turnId) ?? this.#open(turnId);
    let line = this.#lines.get(connectionId);
    if (line === undefined) {
      line = { connectionId, busy: false, watchers: new Set() };
      this.#lines.set(connectionId, line);
    }
    const before = feed.watchers.get(connectionId);
    if (before !== undefined) line.watchers.delete(before);
    const watcher: Watcher = {
      ...{ feed, connectionId, sent: has.sent, epoch: has.epoch, checkedEpoch: 0 },
      ...{ catchingUp: true, missing: 0, endSent: false, unsaved: false },
      servedAt: this.#deps.now(),
      // Who asks again goes on being sent the same answer.
      trace: before?.trace ?? this.#deps.tracer?.begin(turnId, connectionId),
    };
    feed.watchers.set(connectionId, watcher);
    line.watchers.add(watcher);
    this.#pump(line);
  }

  /** How many turns are watched, and by how many connections in all. */
  watched(): { turns: number; watchers: number } {
    let watchers = 0;
    for (const feed of this.#feeds.values()) watchers += feed.watchers.size;
    return { turns: this.#feeds.size, watchers };
  }

  knows(turnId: string, connectionId: string): boolean {
    return this.#feeds.get(turnId)?.watchers.has(connectionId) ?? false;
  }

  /** Forgets a connection that has closed. */
  forget(connectionId: string): void {
    const line = this.#lines.get(connectionId);
    if (line !== undefined) this.#detach(line);
  }

  /**
   * Reads the streams again of turns that have been silent: a notification may have been lost. Who has
   * not been served for long, nor asked for it, is forgotten.
   */
  checkSilent(silentMs: number): void {
    const now = this.#deps.now();
    for (const feed of this.#feeds.values()) {
      if (feed.heardAt > now - silentMs) continue;
      feed.heardAt = now;
      for (const watcher of [...feed.watchers.values()]) {
        if (watcher.servedAt > now - forgottenMs) watcher.catchingUp = true;
        else this.#leave(watcher);
      }
      this.#pumpAll(feed);
    }
  }

  /** Forgets a shard's turns; another relay has them now. Our own connections stay. */
  dropShard(shard: number): void {
    for (const [turnId, feed] of this.#feeds) {
      if (relayShardOf(turnId) !== shard) continue;
      for (const watcher of [...feed.watchers.values()]) {
        if (relayOf(watcher.connectionId) !== undefined) continue;
        feed.watchers.delete(watcher.connectionId);
        this.#lines.get(watcher.connectionId)?.watchers.delete(watcher);
        watcher.trace?.end("handed over");
      }
      if (feed.watchers.size === 0) this.#close(feed);
    }
  }

  /** Writes how far connections have got, for the relay that comes next. */
  async saveProgress(): Promise<void> {
    await this.#record.save(this.#watchers().filter((watcher) => watcher.unsaved));
  }

  /** Writes anew who watches what, after Redis may have lost it. */
  async saveAll(): Promise<void> {
    await this.#record.enter(this.#watchers());
  }

  /** Finishes the calls under way and notes how far each connection has got; then forgets it all. */
  async drain(patienceMs: number): Promise<void> {
    const busy = () => this.#ready.size > 0 || [...this.#lines.values()].some((line) => line.busy);
    const deadline = this.#deps.now() + patienceMs;
    while (busy() && this.#deps.now() < deadline) await sleep(5);
    await this.saveProgress();
    for (const watcher of this.#watchers()) watcher.trace?.end("handed over");
    await this.#deps.tracer?.settled();
    for (const feed of this.#feeds.values()) this.#close(feed);
    for (const line of this.#lines.values()) line.watchers.clear();
  }

  #watchers(): Watcher[] {
    return [...this.#feeds.values()].flatMap((feed) => [...feed.watchers.values()]);
  }

  #open(turnId: string): Feed {
    const feed = new Feed(turnId, this.#channels.listen(turnId), this.#deps.now());
    this.#feeds.set(turnId, feed);
    return feed;
  }

  #close({ turnId }: Feed): void {
    this.#feeds.delete(turnId);
    this.#channels.leave(turnId);
  }

  #pumpAll(feed: Feed): void {
    for (const connectionId of feed.watchers.keys()) {
      const line = this.#lines.get(connectionId);
      if (line !== undefined) this.#pump(line);
    }
  }

  #pump(line: Line): void {
    if (line.busy) return;
    // After all that has arrived by now has been heard.
    if (this.#ready.size === 0) setImmediate(() => this.#serveReady());
    this.#ready.add(line);
  }

  #serveReady(): void {
    const lines = [...this.#ready];
    this.#ready.clear();
    for (const line of lines) {
      line.busy = true;
      void this.#serveWhole(line).then(() => {
        line.busy = false;
        if ([...line.watchers].some(hasNews)) this.#pump(line);
        else if (line.watchers.size === 0) this.#lines.delete(line.connectionId);
      });
    }
  }

  async #serveWhole(line: Line): Promise<void> {
    try {
      await this.#serve(line);
    } catch (error) {
      const { connectionId } = line;
      this.#deps.logger.warn("reading a token stream failed", {
        connectionId,
        error: error as Error,
      });
      for (const watcher of line.watchers) watcher.catchingUp = true;
      await sleep(rereadMs);
    }
  }

  /** Serves a connection until there is nothing more to say. */
  async #serve(line: Line): Promise<void> {
    for (;;) {
      if (![...line.watchers].some(hasNews)) return;
      // What arrives while it waits for its call goes with it.
      await this.#deps.connections.ready?.(line.connectionId);
      const next = await this.#firstWithNews(line);
      if (next === undefined) return;
      const { watcher, frame, sent, epoch, ends } = next;
      line.watchers.delete(watcher);
      line.watchers.add(watcher);
      if (!(await this.#deliver(line, frame))) return;
      watcher.sent = sent;
      watcher.epoch = epoch;
      watcher.unsaved = true;
      watcher.servedAt = this.#deps.now();
      watcher.trace?.delivered(frame);
      if (this.#deps.meter !== undefined) count(this.#deps.meter, next);
      if (!ends) continue;
      watcher.endSent = true;
      this.#leave(watcher);
    }
  }

  async #firstWithNews(line: Line): Promise<NextFrame | undefined> {
    for (const watcher of [...line.watchers]) {
      if (!hasNews(watcher)) continue;
      const next = await this.#nextFrame(watcher);
      if (next !== undefined && line.watchers.has(watcher)) return next;
    }
    return undefined;
  }

  async #nextFrame(watcher: Watcher): Promise<NextFrame | undefined> {
    const { feed, sent } = watcher;
    const { turnId } = feed;
    if (!feed.isListening) await feed.listening;
    const rewind = await this.#rewindOf(watcher);
    if (rewind !== undefined) return rewind;
    const tokens = await this.#tokensAfter(watcher);
    // What was read may be the first that is seen of another leader.
    const lateRewind = await this.#rewindOf(watcher);
    if (lateRewind !== undefined) return lateRewind;
    const last = tokens.at(-1);
    if (last !== undefined) {
      const [from, to, epoch] = [sent + 1, sent + tokens.length, last.epoch];
      const text = tokens.length === 1 ? last.text : tokens.map((token) => token.text).join("");
      const frame = { type: "tokens", turnId, from, to, text, epoch } as const;
      return { watcher, frame, sent: to, epoch, ends: false, heardAt: tokens[0]?.heardAt };
    }
    if (feed.end === undefined || sent < feed.end.lastSeq || watcher.endSent) return undefined;
    if (sent > feed.end.lastSeq) return rewindTo(watcher, feed.end.lastSeq);
    const frame = { type: "done", turnId, ...feed.end } as const;
    return { watcher, frame, sent, epoch: watcher.epoch, ends: true };
  }

  /** The frame that cuts a watcher back to what the stream has, where that is needed. */
  async #rewindOf(watcher: Watcher): Promise<NextFrame | undefined> {
    if (!mayBeCut(watcher)) return undefined;
    const kept = await this.#keptOf(watcher);
    if (kept === watcher.sent) return undefined;
    watcher.catchingUp = true;
    return rewindTo(watcher, kept);
  }

  /**
   * How many of the tokens that a watcher was sent are still in the stream. Epochs grow along a stream,
   * and a leader writes after what it has found; so tokens of the watcher's epoch, and of those before
   * it, are the ones that it was sent, and those of later epochs stand in place of tokens that are lost.
   */
  async #keptOf(watcher: Watcher): Promise<number> {
    const { feed, sent, epoch } = watcher;
    watcher.checkedEpoch = feed.epoch;
    const key = turnTokensKey(feed.turnId);
    for (let upTo = sent; upTo > 0; upTo -= cutTokens) {
      const from = Math.max(1, upTo - cutTokens + 1);
      const { tokens } = readEntries(await this.#deps.redis.xrange(key, `${from}-0`, `${upTo}-0`));
      const index = tokens.findLastIndex((token) => token.epoch <= epoch);
      if (index !== -1) return from + index;
    }
    return 0;
  }

  /** What the watcher lacks, from the feed's tail if it reaches back so far, else from the stream. */
  async #tokensAfter(watcher: Watcher): Promise<SaidToken[]> {
    const { feed, sent } = watcher;
    const known = watcher.catchingUp ? undefined : feed.after(sent);
    if (known !== undefined) return known;
    if (!watcher.catchingUp && sent >= feed.lastSeq) return [];
    this.#deps.meter?.reads[watcher.catchingUp ? "catch_up" : "gap"].add();
    watcher.catchingUp = false;
    const key = turnTokensKey(feed.turnId);
    const entries = await this.#deps.redis.xrange(key, `(${sent}-0`, "+", "COUNT", readTokens);
    const { tokens, end, epoch } = readEntries(entries);
    feed.noteEpoch(epoch);
    feed.end ??= end;
    if (entries.length === readTokens) watcher.catchingUp = true;
    if (tokens.length === 0) watcher.missing = feed.lastSeq;
    if (entries.length === 0 && sent > 0) await this.#readLast(feed);
    return tokens;
  }

  /** A stream that ends before what a watcher was sent tells it nothing of that: its last entry does. */
  async #readLast(feed: Feed): Promise<void> {
    const key = turnTokensKey(feed.turnId);
    const { end, epoch } = readEntries(await this.#deps.redis.xrevrange(key, "+", "-", "COUNT", 1));
    feed.noteEpoch(epoch);
    feed.end ??= end;
  }

  /** @returns false when the connection is gone. */
  async #deliver(line: Line, frame: ServerFrame): Promise<boolean> {
    const { connections, logger } = this.#deps;
    const { connectionId } = line;
    for (let failures = 0; ; failures++) {
      try {
        if ((await connections.post(connectionId, frame)) === "sent") return true;
        break;
      } catch (error) {
        if (classify(error) === "fatal" || failures >= mostFailures) {
          logger.error("a frame cannot be delivered", { connectionId, error: error as Error });
          break;
        }
        await sleep(backoffMs(failures, 20, 2_000));
        await connections.ready?.(connectionId);
      }
    }
    this.#detach(line);
    return false;
  }

  #leave(watcher: Watcher): void {
    this.#lines.get(watcher.connectionId)?.watchers.delete(watcher);
    this.#forget(watcher);
  }

  #detach(line: Line): void {
    for (const watcher of line.watchers) {
      watcher.trace?.end("gone");
      this.#forget(watcher);
    }
    line.watchers.clear();
  }

  /** Takes a watcher out of its feed and of Redis, and the turn too when nobody watches it. */
  #forget(watcher: Watcher): void {
    const { feed, connectionId } = watcher;
    const { turnId, watchers } = feed;
    // It may have asked anew while its last frame was on its way.
    if (watchers.get(connectionId) !== watcher) return;
    watcher.trace?.end(watcher.endSent ? "done" : "left");
    watchers.delete(connectionId);
    if (watchers.size === 0) this.#close(feed);
    this.#record.remove(watcher).catch((error: unknown) => {
      const details = { turnId, connectionId, error: error as Error };
      this.#deps.logger.warn("a watcher stays in Redis", details);
    });
  }
}

/** A frame was taken. */
function count({ frames, tokens, deliveryLatency, clock }: RelayMeter, next: NextFrame): void {
  const { frame, heardAt } = next;
  frames[frame.type].add();
  if (frame.type === "tokens") tokens.add(frame.to - frame.from + 1);
  if (heardAt !== undefined) deliveryLatency.observe((clock() - heardAt) / 1_000);
}

const rewindTo = (watcher: Watcher, to: number): NextFrame => {
  const { turnId } = watcher.feed;
  return {
    ...{ watcher, frame: { type: "rewind", turnId, to }, sent: to },
    ...{ epoch: to === 0 ? 0 : watcher.epoch, ends: false },
  };
};
