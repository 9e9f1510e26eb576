import type { Logger } from "@aws-lambda-powertools/logger";
import type { Redis } from "ioredis";
import { redisSubscriber } from "../../events/redis-client.ts";
import {
  noticeChannel,
  relayChannel,
  shardChannel,
  turnChannel,
  turnMessageSchema,
  watchMessageSchema,
} from "../../events/redis-keys.ts";
import { Delivery, type DeliveryDeps, type TurnChannels } from "./delivery.ts";
import { Notices } from "./notices.ts";
import { relayPresence } from "./presence.ts";
import { shardLeases } from "./shard-leases.ts";
import { takeUp } from "./take-up.ts";
import { watchRecord } from "./watch-record.ts";

export interface RelayDeps extends DeliveryDeps {
  /** Hears once a second how many relays live. */
  onRelays?: (living: number) => void;
}

export interface Relay {
  /** The shards that it owns. */
  shards(): number[];
  /** Turns that are watched, and watchers of them. */
  watched(): { turns: number; watchers: number };
  /** A connection to its own door has closed. */
  forget(connectionId: string): void;
  /** Hands the shards over and closes what the relay has opened. */
  stop(): Promise<void>;
}

/** A turn that was silent for this long is looked up in its stream. */
const silentMs = 2_000;
const beatMs = 1_000;
/** Whoever is noted as a watcher and could not be announced is found after so long. */
const takeUpMs = 30_000;
/** How long calls under way may take when the relay ends. */
const drainMs = 2_000;

/** A relay: leases of shards, notifications of watched turns, deliveries to their connections. */
export async function startRelay(relayId: string, deps: RelayDeps): Promise<Relay> {
  const { redis, logger, onRelays = () => {} } = deps;
  const subscriber = redisSubscriber(redis);
  const delivery = new Delivery(deps, turnChannels(subscriber), watchRecord(redis));
  const presence = relayPresence(redis, relayId);
  const watchers = takeUp(redis, relayId, delivery);

  const owned = new Set<number>();
  const notices = new Notices({ ...deps, relayId, owned });
  subscriber.on("message", (channel, text) => hear({ delivery, notices }, logger, channel, text));
  subscriber.on("error", (error) => logger.warn("Redis is away", { error }));
  const warn = (what: string) => (error: unknown) => logger.warn(what, { error: error as Error });
  await subscriber.subscribe(relayChannel(relayId), noticeChannel);

  const leases = shardLeases(redis, relayId, {
    // Subscribes first, so that nothing falls between what the set holds and what is announced.
    async taken(shard) {
      await subscriber.subscribe(shardChannel(shard));
      await watchers.shard(shard);
      owned.add(shard);
    },
    async lost(shard) {
      owned.delete(shard);
      await subscriber.unsubscribe(shardChannel(shard));
      await delivery.saveProgress();
      delivery.dropShard(shard);
    },
  });

  const takeUpAll = () => watchers.all(leases.owned);
  // What was published while the subscription was down is gone: look into every stream, and at who
  // watches. And Redis may have come back without its data.
  subscriber.on("ready", () => {
    delivery.checkSilent(0);
    delivery.saveAll().then(takeUpAll).catch(warn("noting the watchers failed"));
  });

  async function beat(): Promise<void> {
    const living = await presence.beat();
    onRelays(living);
    await Promise.all([leases.renew(living), delivery.saveProgress()]);
  }
  await beat();
  const stopBeating = repeat(beatMs, beat, warn("keeping the shards failed"));
  // By the clock of this process, also while Redis is away.
  const checking = setInterval(() => delivery.checkSilent(silentMs), beatMs);
  const stopLooking = repeat(takeUpMs, takeUpAll, warn("looking for watchers failed"));

  async function handOver(): Promise<void> {
    clearInterval(checking);
    await Promise.all([stopBeating(), stopLooking()]);
    await subscriber.unsubscribe();
    await Promise.all([delivery.drain(drainMs), notices.stop()]);
    await leases.release();
    await presence.leave();
    subscriber.disconnect();
  }

  let stopped: Promise<void> | undefined;
  return {
    shards: () => [...leases.owned],
    watched: () => delivery.watched(),
    forget: (connectionId) => delivery.forget(connectionId),
    stop() {
      stopped ??= handOver();
      return stopped;
    },
  };
}

function hear(
  { delivery, notices }: { delivery: Delivery; notices: Notices },
  logger: Logger,
  channel: string,
  text: string,
): void {
  try {
    const message: unknown = JSON.parse(text);
    if (channel === noticeChannel) notices.hear(message);
    else if (channel.startsWith("turn:")) delivery.hearTurn(turnMessageSchema.parse(message));
    else delivery.hearWatch(watchMessageSchema.parse(message));
  } catch (error) {
    logger.error("a notification cannot be read", { channel, error: error as Error });
  }
}

/** Commands keep their order: one that listens again right after it has left is not cut off. */
const turnChannels = (subscriber: Redis): TurnChannels => ({
  async listen(turnId) {
    await subscriber.subscribe(turnChannel(turnId));
  },
  leave(turnId) {
    // Where it fails the connection is down, and a message about a turn that nobody watches is dropped.
    subscriber.unsubscribe(turnChannel(turnId)).catch(() => {});
  },
});

/** Runs `task` every `everyMs`, never twice at once. @returns how to end it, once the last has run. */
function repeat(
  everyMs: number,
  task: () => Promise<void>,
  onError: (error: unknown) => void,
): () => Promise<void> {
  let running: Promise<void> | undefined;
  const timer = setInterval(() => {
    running ??= task()
      .catch(onError)
      .finally(() => {
        running = undefined;
      });
  }, everyMs);
  return async () => {
    clearInterval(timer);
    await running;
  };
}
