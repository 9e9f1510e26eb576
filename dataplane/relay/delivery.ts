import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "@aws-lambda-powertools/logger";
import type { Redis } from "ioredis";
import type { ServerFrame } from "../../events/frames.ts";
import {
  connectionTurnsKey,
  relayShardOf,
  type ShardMessage,
  shardTurnsKey,
  turnTokensKey,
  turnWatchersKey,
} from "../../events/redis-keys.ts";
import { backoffMs } from "../backoff.ts";
import { classify } from "../errors.ts";
import { readEntries } from "../token-stream.ts";
import type { Connections } from "./connections.ts";
import { Feed, type Watcher } from "./feed.ts";

export interface DeliveryDeps {
  redis: Redis;
  connections: Connections;
  budget: { take(): Promise<void> };
  logger: Logger;
  now: () => number;
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
  frame: ServerFrame;
  sent: number;
  ends: boolean;
}

/** Tokens read from the stream at once. Their text stays far below a message's 128 KB. */
const readTokens = 512;
/** After a failed read of a stream. */
const rereadMs = 500;
/** A connection that cannot be reached is given up after so many failed calls in a row. */
const mostFailures = 30;

/**
 * Carries token streams to connections. Each connection has one call in flight at most; whatever its
 * turns say meanwhile goes out joined in the next call, the turns taking their turn. So the first
 * token leaves at once, a fast connection gets small frames, a slow one large ones, and nobody waits
 * for anybody else.
 *
 * Of what a connection has yet to get, only the feed's tail is in memory; the stream has the rest.
 */
export class Delivery {
  readonly #deps: DeliveryDeps;
  readonly #feeds = new Map<string, Feed>();
  readonly #lines = new Map<string, Line>();

  constructor(deps: DeliveryDeps) {
    this.#deps = deps;
  }

  hear(message: ShardMessage): void {
    if (message.kind === "watch") {
      this.watch(message.turnId, message.connectionId, message.after);
    } else if (message.kind === "gone") {
      const line = this.#lines.get(message.connectionId);
      if (line !== undefined) this.#detach(line);
    } else {
      const feed = this.#feeds.get(message.turnId);
      if (feed === undefined) return;
      feed.heardAt = this.#deps.now();
      if (message.kind === "tokens") feed.hear(message);
      else feed.end = message.end;
      this.#pumpAll(feed);
    }
  }

  watch(turnId: string, connectionId: string, after: number): void {
    let feed = this.#feeds.get(turnId);
    if (feed === undefined) {
      feed = new Feed(turnId, this.#deps.now());
      this.#feeds.set(turnId, feed);
    }
    let line = this.#lines.get(connectionId);
    if (line === undefined) {
      line = { connectionId, busy: false, watchers: new Set() };
      this.#lines.set(connectionId, line);
    }
    const before = feed.watchers.get(connectionId);
    if (before !== undefined) line.watchers.delete(before);
    const watcher: Watcher = {
      ...{ feed, connectionId, sent: after },
      ...{ catchingUp: true, endSent: false, unsaved: false },
    };
    feed.watchers.set(connectionId, watcher);
    line.watchers.add(watcher);
    this.#pump(line);
  }

  /** Reads the streams again of turns that have been silent: a notification may have been lost. */
  checkSilent(silentMs: number): void {
    const now = this.#deps.now();
    for (const feed of this.#feeds.values()) {
      if (feed.heardAt > now - silentMs) continue;
      feed.heardAt = now;
      for (const watcher of feed.watchers.values()) watcher.catchingUp = true;
      this.#pumpAll(feed);
    }
  }

  /** Forgets a shard's turns; another relay has them now. */
  dropShard(shard: number): void {
    for (const [turnId, feed] of this.#feeds) {
      if (relayShardOf(turnId) !== shard) continue;
      this.#feeds.delete(turnId);
      for (const watcher of feed.watchers.values()) {
        this.#lines.get(watcher.connectionId)?.watchers.delete(watcher);
      }
    }
  }

  /** Writes how far each connection has got, for the relay that comes next. */
  async saveProgress(): Promise<void> {
    const pipeline = this.#deps.redis.pipeline();
    for (const { turnId, watchers } of this.#feeds.values()) {
      for (const watcher of watchers.values()) {
        if (!watcher.unsaved) continue;
        watcher.unsaved = false;
        pipeline.hset(turnWatchersKey(turnId), watcher.connectionId, watcher.sent);
      }
    }
    if (pipeline.length > 0) await pipeline.exec();
  }

  /** Finishes the calls under way and notes how far each connection has got; then forgets it all. */
  async drain(patienceMs: number): Promise<void> {
    const busy = () => [...this.#lines.values()].some((line) => line.busy);
    const deadline = this.#deps.now() + patienceMs;
    while (busy() && this.#deps.now() < deadline) await sleep(5);
    await this.saveProgress();
    this.#feeds.clear();
    for (const line of this.#lines.values()) line.watchers.clear();
  }

  #pumpAll(feed: Feed): void {
    for (const connectionId of feed.watchers.keys()) {
      const line = this.#lines.get(connectionId);
      if (line !== undefined) this.#pump(line);
    }
  }

  #pump(line: Line): void {
    if (line.busy) return;
    line.busy = true;
    void this.#serveWhole(line).then(() => {
      line.busy = false;
      if ([...line.watchers].some(hasNews)) this.#pump(line);
      else if (line.watchers.size === 0) this.#lines.delete(line.connectionId);
    });
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
      const next = await this.#firstWithNews(line);
      if (next === undefined) return;
      const { watcher, frame, sent, ends } = next;
      line.watchers.delete(watcher);
      line.watchers.add(watcher);
      if (!(await this.#deliver(line, frame))) return;
      watcher.sent = sent;
      watcher.unsaved = true;
      if (ends) this.#finish(line, watcher);
    }
  }

  async #firstWithNews(line: Line): Promise<NextFrame | undefined> {
    for (const watcher of [...line.watchers]) {
      const next = await this.#nextFrame(watcher);
      if (next !== undefined && line.watchers.has(watcher)) return next;
    }
    return undefined;
  }

  async #nextFrame(watcher: Watcher): Promise<NextFrame | undefined> {
    const { feed, sent } = watcher;
    const { turnId } = feed;
    const texts = await this.#textsAfter(watcher);
    if (texts.length > 0) {
      const to = sent + texts.length;
      const frame = { type: "tokens", turnId, from: sent + 1, to, text: texts.join("") } as const;
      return { watcher, frame, sent: to, ends: false };
    }
    if (feed.end !== undefined && sent >= feed.end.lastSeq && !watcher.endSent) {
      return { watcher, frame: { type: "done", turnId, ...feed.end }, sent, ends: true };
    }
    return undefined;
  }

  /** What the watcher lacks, from the feed's tail if it reaches back so far, else from the stream. */
  async #textsAfter(watcher: Watcher): Promise<string[]> {
    const { feed, sent } = watcher;
    const known = watcher.catchingUp ? undefined : feed.after(sent);
    if (known !== undefined) return known;
    if (!watcher.catchingUp && sent >= feed.lastSeq) return [];
    watcher.catchingUp = false;
    const key = turnTokensKey(feed.turnId);
    const entries = await this.#deps.redis.xrange(key, `(${sent}-0`, "+", "COUNT", readTokens);
    const { tokens, end } = readEntries(entries);
    feed.end ??= end;
    if (entries.length === readTokens) watcher.catchingUp = true;
    return tokens.map((token) => token.text);
  }

  /** @returns false when the connection is gone. */
  async #deliver(line: Line, frame: ServerFrame): Promise<boolean> {
    const { budget, connections, logger } = this.#deps;
    const { connectionId } = line;
    for (let failures = 0; ; failures++) {
      await budget.take();
      try {
        if ((await connections.post(connectionId, frame)) === "sent") return true;
        break;
      } catch (error) {
        if (classify(error) === "fatal" || failures >= mostFailures) {
          logger.error("a frame cannot be delivered", { connectionId, error: error as Error });
          break;
        }
        await sleep(backoffMs(failures, 20, 2_000));
      }
    }
    this.#detach(line);
    return false;
  }

  #finish(line: Line, watcher: Watcher): void {
    watcher.endSent = true;
    line.watchers.delete(watcher);
    this.#forget(watcher);
  }

  #detach(line: Line): void {
    for (const watcher of line.watchers) this.#forget(watcher);
    line.watchers.clear();
  }

  /** Takes a watcher out of its feed and of Redis, and the turn too when nobody watches it. */
  #forget(watcher: Watcher): void {
    const { feed, connectionId } = watcher;
    const { turnId, watchers } = feed;
    // It may have asked anew while its last frame was on its way.
    if (watchers.get(connectionId) !== watcher) return;
    watchers.delete(connectionId);
    const pipeline = this.#deps.redis
      .pipeline()
      .hdel(turnWatchersKey(turnId), connectionId)
      .srem(connectionTurnsKey(connectionId), turnId);
    if (watchers.size === 0) {
      this.#feeds.delete(turnId);
      pipeline.srem(shardTurnsKey(relayShardOf(turnId)), turnId);
    }
    pipeline.exec().catch((error: unknown) => {
      const details = { turnId, connectionId, error: error as Error };
      this.#deps.logger.warn("a watcher stays in Redis", details);
    });
  }
}

/** Something arrived after the last look. */
function hasNews({ feed, sent, catchingUp, endSent }: Watcher): boolean {
  return catchingUp || sent < feed.lastSeq || (feed.end !== undefined && !endSent);
}
