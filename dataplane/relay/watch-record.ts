import { z } from "zod";
import { RedisBatch } from "../../events/redis-batch.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import {
  connectionTurnsKey,
  turnWatchersKey,
  watcherValue,
  watchRoute,
} from "../../events/redis-keys.ts";
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

export function watchRecord(redis: RedisClient): WatchRecord {
  defineScripts(redis);
  return {
    async save(watchers) {
      const batch = new RedisBatch(redis);
      for (const watcher of watchers) {
        watcher.unsaved = false;
        const { feed, connectionId } = watcher;
        const key = turnWatchersKey(feed.turnId);
        const entry = watcherValue(watcher);
        batch.add(key, (turn) => turn.axonNoteProgress(key, connectionId, entry));
      }
      try {
        await batch.exec();
      } catch (error) {
        for (const watcher of watchers) watcher.unsaved = true;
        throw error;
      }
    },

    async enter(watchers) {
      const batch = new RedisBatch(redis);
      for (const watcher of watchers) {
        const { connectionId, feed } = watcher;
        const { turnId } = feed;
        const key = turnWatchersKey(turnId);
        const entry = watcherValue(watcher);
        const { turnsKey } = watchRoute(turnId, connectionId);
        const ownKey = connectionTurnsKey(connectionId);
        batch
          .add(key, (turn) => turn.hset(key, connectionId, entry).expire(key, ttlSeconds))
          .add(turnsKey, (route) => route.sadd(turnsKey, turnId))
          .add(ownKey, (own) => own.sadd(ownKey, turnId).expire(ownKey, ttlSeconds));
      }
      await batch.exec();
    },

    async remove({ feed: { turnId }, connectionId }) {
      const { turnsKey } = watchRoute(turnId, connectionId);
      const key = turnWatchersKey(turnId);
      const ownKey = connectionTurnsKey(connectionId);
      const [, left] = await new RedisBatch(redis)
        .add(key, (turn) => turn.hdel(key, connectionId).hkeys(key))
        .add(ownKey, (own) => own.srem(ownKey, turnId))
        .exec();
      // Also those that only the record knows. Front door and shard have sets of their own.
      const others = z.array(z.string()).parse(left);
      const stays = others.some((other) => watchRoute(turnId, other).turnsKey === turnsKey);
      if (!stays) await redis.srem(turnsKey, turnId);
    },
  };
}
