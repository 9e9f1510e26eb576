import type { Logger } from "@aws-lambda-powertools/logger";
import { Redis } from "ioredis";
import { processId } from "../events/ids.ts";
import {
  shardChannel,
  shardMessageSchema,
  shardTurnsKey,
  turnWatchersKey,
} from "../events/redis-keys.ts";
import { relayConfig } from "./config.ts";
import { runProcess } from "./process.ts";
import { callBudget } from "./relay/call-budget.ts";
import { apiGatewayConnections } from "./relay/connections.ts";
import { Delivery, type DeliveryDeps } from "./relay/delivery.ts";
import { shardLeases } from "./relay/shard-leases.ts";

const help = `
node dataplane/relay.ts: carries token streams from Redis to WebSocket connections.

It is configured by the environment:
  REDIS_URL                   where the token streams are
  AXON_CONNECTIONS_ENDPOINT   the callback API of the WebSocket gateway
  AXON_CALLBACKS_PER_SECOND   calls a second, at most (default 8000)
  LOG_LEVEL                   DEBUG, INFO, WARN or ERROR
and by what the AWS SDK reads: AWS_REGION, credentials.
`;

/** A turn that was silent for this long is looked up in its stream. */
const silentMs = 2_000;
/** How long calls under way may take when the relay ends. */
const drainMs = 2_000;

/**
 * A relay: leases of shards, notifications of those shards, deliveries to their connections.
 * @returns a function that hands the shards over and closes what the relay has opened.
 */
export async function startRelay(
  relayId: string,
  deps: DeliveryDeps,
): Promise<{ shards: () => number[]; stop: () => Promise<void> }> {
  const { redis, logger } = deps;
  const subscriber = redis.duplicate();
  const delivery = new Delivery(deps);

  /** Subscribes first, so that nothing falls between what the set holds and what is announced. */
  async function take(shard: number): Promise<void> {
    await subscriber.subscribe(shardChannel(shard));
    for (const turnId of await redis.smembers(shardTurnsKey(shard))) {
      const watchers = await redis.hgetall(turnWatchersKey(turnId));
      if (Object.keys(watchers).length === 0) await redis.srem(shardTurnsKey(shard), turnId);
      for (const [connectionId, sent] of Object.entries(watchers)) {
        delivery.watch(turnId, connectionId, Number(sent));
      }
    }
  }

  async function drop(shard: number): Promise<void> {
    await subscriber.unsubscribe(shardChannel(shard));
    delivery.dropShard(shard);
  }

  subscriber.on("message", (channel, text) => {
    try {
      delivery.hear(shardMessageSchema.parse(JSON.parse(text)));
    } catch (error) {
      logger.error("a notification cannot be read", { channel, error: error as Error });
    }
  });
  subscriber.on("error", (error) => logger.warn("Redis is away", { error }));
  // What was published while the subscription was down is gone: look into every stream.
  subscriber.on("ready", () => delivery.checkSilent(0));

  const leases = shardLeases(redis, relayId, { taken: take, lost: drop });
  await leases.renew();

  const tick = setInterval(() => {
    delivery.checkSilent(silentMs);
    Promise.all([leases.renew(), delivery.saveProgress()]).catch((error: unknown) =>
      logger.warn("keeping the shards failed", { error: error as Error }),
    );
  }, 1_000);

  async function handOver(): Promise<void> {
    clearInterval(tick);
    await subscriber.unsubscribe();
    await delivery.drain(drainMs);
    await leases.release();
    subscriber.disconnect();
  }

  let stopped: Promise<void> | undefined;
  return {
    shards: () => [...leases.owned],
    stop() {
      stopped ??= handOver();
      return stopped;
    },
  };
}

async function start(logger: Logger) {
  const config = relayConfig(process.env);
  const relayId = processId("relay");
  logger.appendKeys({ relayId });
  const redis = new Redis(config.REDIS_URL, { maxRetriesPerRequest: null });
  redis.on("error", (error) => logger.warn("Redis is away", { error }));
  const relay = await startRelay(relayId, {
    redis,
    logger,
    connections: apiGatewayConnections(config.AXON_CONNECTIONS_ENDPOINT),
    budget: callBudget(config.AXON_CALLBACKS_PER_SECOND),
    now: Date.now,
  });
  return {
    ready: { role: "relay", relayId, shards: relay.shards() },
    async drain() {
      await relay.stop();
      redis.disconnect();
    },
  };
}

if (import.meta.main) {
  await runProcess({
    start,
    help,
    serviceName: "axon-relay",
    logLevel: () => relayConfig(process.env).LOG_LEVEL,
  });
}
