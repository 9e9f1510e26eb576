import type { Redis } from "ioredis";
import { z } from "zod";
import {
  connectionTurnsKey,
  turnWatchersKey,
  watcherValue,
  watchRoute,
} from "../../events/redis-keys.ts";
import { repliesOf } from "../redis-replies.ts";
import { defineScripts } from "../scripts.ts";
import type { Watcher } from "./feed.ts";

/** Who watches what, and how far they have got, in Redis: what the next relay goes on from. */
export interface WatchRecord {
  /** Notes progress, of those that still watch. */
  save(watchers: readonly Watcher[]): Promise<void>;
  /** Writes whole entries, for a Redis that has lost them. */
  enter(watchers: readonly Watcher[]): Promise<void>;
  /** Takes a watcher out. Its turn stays in the set where it is found, as long as others are noted. */
  remove(watcher: Watcher): Promise<void>;
}

/** A record of a running turn that nobody refreshes is forgotten after this. */
const ttlSeconds = 24 * 3_600;

export function watchRecord(redis: Redis): WatchRecord {
  defineScripts(redis);
  return {
    async save(watchers) {
      const pipeline = redis.pipeline();
      for (const watcher of watchers) {
        watcher.unsaved = false;
        const { feed, connectionId } = watcher;
        const key = turnWatchersKey(feed.turnId);
        pipeline.axonNoteProgress(key, connectionId, watcherValue(watcher));
      }
      if (pipeline.length === 0) return;
      try {
        repliesOf(await pipeline.exec());
      } catch (error) {
        for (const watcher of watchers) watcher.unsaved = true;
        throw error;
      }
    },

    async enter(watchers) {
      const pipeline = redis.pipeline();
      for (const watcher of watchers) {
        const { connectionId, feed } = watcher;
        const { turnId } = feed;
        pipeline
          .hset(turnWatchersKey(turnId), connectionId, watcherValue(watcher))
          .expire(turnWatchersKey(turnId), ttlSeconds)
          .sadd(watchRoute(turnId, connectionId).turnsKey, turnId)
          .sadd(connectionTurnsKey(connectionId), turnId)
          .expire(connectionTurnsKey(connectionId), ttlSeconds);
      }
      if (pipeline.length > 0) repliesOf(await pipeline.exec());
    },

    async remove({ feed: { turnId }, connectionId }) {
      const { turnsKey } = watchRoute(turnId, connectionId);
      const replies = repliesOf(
        await redis
          .pipeline()
          .hdel(turnWatchersKey(turnId), connectionId)
          .srem(connectionTurnsKey(connectionId), turnId)
          .hkeys(turnWatchersKey(turnId))
          .exec(),
      );
      // Also those that only the record knows. Front door and shard have sets of their own.
      const others = z.array(z.string()).parse(replies[2]);
      const stays = others.some((other) => watchRoute(turnId, other).turnsKey === turnsKey);
      if (!stays) await redis.srem(turnsKey, turnId);
    },
  };
}
