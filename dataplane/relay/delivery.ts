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

/**
 * Carries token streams to connections. Each connection has one call in flight at most; whatever its
 * turns say meanwhile goes out joined in the next call, the turns taking their turn. So the first
 * token leaves at once, a fast connection gets small frames, a slow one large ones, and nobody waits
 * for anybody else.
 *
 * Of what a connection has yet to get, only the feed's tail is in memory; the stream has the rest.
 */
export interface Delivery {
  hear(message: ShardMessage): void;
  watch(turnId: string, connectionId: string, after: number): void;
  /** Reads the streams again of turns that have been silent: a notification may have been lost. */
  checkSilent(silentMs: number): void;
  /** Forgets a shard's turns; another relay has them now. */
  dropShard(shard: number): void;
  /** Writes how far each connection has got, for the relay that comes next. */
  saveProgress(): Promise<void>;
  watchedTurns(): number;
}

interface Line {
  connectionId: string;
  busy: boolean;
  /** Round robin: who was served goes to the end. */
  watchers: Set<Watcher>;
}

export interface DeliveryDeps {
  redis: Redis;
  connections: Connections;
  budget: { take(): Promise<void> };
  logger: Logger;
  now: () => number;
}

/** Tokens read from the stream at once. Their text stays far below a message's 128 KB. */
const readTokens = 512;
/** After a failed read of a stream. */
const rereadMs = 500;
/** A connection that cannot be reached is given up after so many failed calls in a row. */
const mostFailures = 30;

export function createDelivery({
  redis,
  connections,
  budget,
  logger,
  now,
}: DeliveryDeps): Delivery {
  const feeds = new Map<string, Feed>();
  const lines = new Map<string, Line>();

  /** The next frame for a watcher, or nothing for now. `sent` tells how far it brings it. */
  async function nextFrame(
    watcher: Watcher,
  ): Promise<{ frame: ServerFrame; sent: number; ends: boolean } | undefined> {
    const { feed, sent } = watcher;
    const { turnId } = feed;
    const behind = sent < feed.lastSeq;
    let texts = watcher.catchingUp ? undefined : feed.after(sent);
    if (texts === undefined && (watcher.catchingUp || behind)) {
      watcher.catchingUp = false;
      const start = `(${sent}-0`;
      const entries = await redis.xrange(turnTokensKey(turnId), start, "+", "COUNT", readTokens);
      const { tokens, end } = readEntries(entries);
      feed.end ??= end;
      texts = tokens.map((token) => token.text);
      if (entries.length === readTokens) watcher.catchingUp = true;
    }
    if (texts !== undefined && texts.length > 0) {
      const to = sent + texts.length;
      const frame = { type: "tokens", turnId, from: sent + 1, to, text: texts.join("") } as const;
      return { frame, sent: to, ends: false };
    }
    if (feed.end !== undefined && sent >= feed.end.lastSeq && !watcher.endSent) {
      return { frame: { type: "done", turnId, ...feed.end }, sent, ends: true };
    }
    return undefined;
  }

  /** Serves a connection until there is nothing more to say. */
  async function serve(line: Line): Promise<void> {
    for (;;) {
      const turn = await firstWithNews(line);
      if (turn === undefined) return;
      const { watcher, frame, sent, ends } = turn;
      line.watchers.delete(watcher);
      line.watchers.add(watcher);
      if (!(await deliver(line, frame))) return;
      watcher.sent = sent;
      watcher.unsaved = true;
      if (ends) finish(line, watcher);
    }
  }

  async function firstWithNews(line: Line) {
    for (const watcher of [...line.watchers]) {
      const next = await nextFrame(watcher);
      if (next !== undefined && line.watchers.has(watcher)) return { watcher, ...next };
    }
    return undefined;
  }

  /** @returns false when the connection is gone. */
  async function deliver(line: Line, frame: ServerFrame): Promise<boolean> {
    for (let failures = 0; ; failures++) {
      await budget.take();
      try {
        if ((await connections.post(line.connectionId, frame)) === "sent") return true;
        break;
      } catch (error) {
        const failure = classify(error);
        if (failure === "fatal" || failures >= mostFailures) {
          logger.error("a frame cannot be delivered", {
            connectionId: line.connectionId,
            error: error as Error,
          });
          break;
        }
        await sleep(backoffMs(failures, 20, 2_000));
      }
    }
    await detach(line);
    return false;
  }

  function pump(connectionId: string): void {
    const line = lines.get(connectionId);
    if (line === undefined || line.busy) return;
    line.busy = true;
    serve(line)
      .then(
        () => 0,
        (error: unknown) => {
          logger.warn("reading a token stream failed", { connectionId, error: error as Error });
          for (const watcher of line.watchers) watcher.catchingUp = true;
          return rereadMs;
        },
      )
      .then(async (pauseMs) => {
        if (pauseMs > 0) await sleep(pauseMs);
        line.busy = false;
        if ([...line.watchers].some(hasNews)) pump(connectionId);
        else if (line.watchers.size === 0) lines.delete(connectionId);
      });
  }

  /** Something arrived after the last look. */
  function hasNews({ feed, sent, catchingUp, endSent }: Watcher): boolean {
    return catchingUp || sent < feed.lastSeq || (feed.end !== undefined && !endSent);
  }

  function finish(line: Line, watcher: Watcher): void {
    watcher.endSent = true;
    line.watchers.delete(watcher);
    forget(watcher);
  }

  /** Takes a watcher out of its feed and of Redis, and the turn too when nobody watches it. */
  function forget({ feed, connectionId }: Watcher): void {
    const { turnId, watchers } = feed;
    watchers.delete(connectionId);
    const pipeline = redis
      .pipeline()
      .hdel(turnWatchersKey(turnId), connectionId)
      .srem(connectionTurnsKey(connectionId), turnId);
    if (watchers.size === 0) {
      feeds.delete(turnId);
      pipeline.srem(shardTurnsKey(relayShardOf(turnId)), turnId);
    }
    pipeline.exec().catch((error: unknown) => {
      logger.warn("a watcher stays in Redis", { turnId, connectionId, error: error as Error });
    });
  }

  async function detach(line: Line): Promise<void> {
    for (const watcher of line.watchers) forget(watcher);
    line.watchers.clear();
  }

  function pumpAll(feed: Feed): void {
    for (const connectionId of feed.watchers.keys()) pump(connectionId);
  }

  return {
    hear(message) {
      if (message.kind === "watch") {
        this.watch(message.turnId, message.connectionId, message.after);
        return;
      }
      if (message.kind === "gone") {
        const line = lines.get(message.connectionId);
        if (line !== undefined) void detach(line);
        return;
      }
      const feed = feeds.get(message.turnId);
      if (feed === undefined) return;
      feed.heardAt = now();
      if (message.kind === "tokens") feed.hear(message);
      else feed.end = message.end;
      pumpAll(feed);
    },

    watch(turnId, connectionId, after) {
      let feed = feeds.get(turnId);
      if (feed === undefined) {
        feed = new Feed(turnId, now());
        feeds.set(turnId, feed);
      }
      let line = lines.get(connectionId);
      if (line === undefined) {
        line = { connectionId, busy: false, watchers: new Set() };
        lines.set(connectionId, line);
      }
      const before = feed.watchers.get(connectionId);
      if (before !== undefined) line.watchers.delete(before);
      const watcher: Watcher = {
        ...{ feed, connectionId, sent: after },
        ...{ catchingUp: true, endSent: false, unsaved: false },
      };
      feed.watchers.set(connectionId, watcher);
      line.watchers.add(watcher);
      pump(connectionId);
    },

    checkSilent(silentMs) {
      const before = now() - silentMs;
      for (const feed of feeds.values()) {
        if (feed.heardAt > before) continue;
        feed.heardAt = now();
        for (const watcher of feed.watchers.values()) watcher.catchingUp = true;
        pumpAll(feed);
      }
    },

    dropShard(shard) {
      for (const [turnId, feed] of feeds) {
        if (relayShardOf(turnId) !== shard) continue;
        feeds.delete(turnId);
        for (const watcher of feed.watchers.values()) {
          lines.get(watcher.connectionId)?.watchers.delete(watcher);
        }
      }
    },

    async saveProgress() {
      const pipeline = redis.pipeline();
      for (const feed of feeds.values()) {
        for (const watcher of feed.watchers.values()) {
          if (!watcher.unsaved) continue;
          watcher.unsaved = false;
          pipeline.hset(turnWatchersKey(feed.turnId), watcher.connectionId, watcher.sent);
        }
      }
      if (pipeline.length > 0) await pipeline.exec();
    },

    watchedTurns: () => feeds.size,
  };
}
