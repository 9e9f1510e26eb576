import {
  relayShards,
  shardChannel,
  type TurnMessage,
  type WatchMessage,
} from "../../events/redis-keys.ts";
import { SimulatedDelivery } from "./delivery.ts";
import type { Gateway } from "./gateway.ts";
import { Process, type Task } from "./process.ts";
import type { SimulatedRedis } from "./redis.ts";
import { RedisConnection } from "./redis-connection.ts";
import type { World } from "./world.ts";

export interface RelayDeps {
  world: World;
  redis: SimulatedRedis;
  gateway: Gateway;
}

const shardLeaseMs = 1_900;
const beatMs = 1_000;
const silentMs = 2_000;
const goneMs = 5_000;
const drainMs = 2_000;

/** A relay of API Gateway's connections: what start-relay.ts, shard-leases.ts and presence.ts do. */
export class SimulatedRelay {
  readonly process: Process;
  readonly delivery: SimulatedDelivery;
  readonly #deps: RelayDeps;
  readonly #connection: RedisConnection;
  readonly #subscriber: RedisConnection;
  readonly #owned = new Set<number>();
  readonly #firstShard: number;
  #beating = false;
  #stopping = false;

  constructor(name: string, deps: RelayDeps) {
    const { world, redis, gateway } = deps;
    this.#deps = deps;
    this.process = new Process(name, world.time);
    this.#firstShard = world.random.whole(0, relayShards - 1);
    this.#connection = new RedisConnection(world, redis, this.process);
    this.delivery = new SimulatedDelivery({
      ...{ world, process: this.process, redis, connection: this.#connection, gateway },
      subscriber: () => this.#subscriber,
    });
    this.#subscriber = new RedisConnection(world, redis, this.process, {
      onMessage: (channel, message) => this.#hear(channel, message),
      onBack: () => {
        this.delivery.checkSilent(0);
        this.process.spawn(this.delivery.saveAll());
      },
    });
    this.process.spawn(this.#beat());
    this.process.every(beatMs, () => this.#beat());
    this.#checkSilentLater();
  }

  /** Hands its shards over and ends. */
  *stop(): Task {
    this.#stopping = true;
    while (this.#beating) yield* this.process.sleep(5);
    for (const shard of this.#owned) yield* this.#subscriber.unsubscribe(shardChannel(shard));
    for (let ms = 0; this.delivery.busy && ms < drainMs; ms += 5) yield* this.process.sleep(5);
    yield* this.delivery.saveProgress();
    const { redis } = this.#deps;
    yield* this.#connection.call(() => {
      for (const shard of this.#owned) redis.keepShard(shard, this.process.name, 0);
      redis.keys.relays.delete(this.process.name);
    });
    this.process.die();
  }

  #hear(channel: string, message: unknown): void {
    if (channel.startsWith("turn:")) this.delivery.hearTurn(message as TurnMessage);
    else this.delivery.hearWatch(message as WatchMessage);
  }

  #checkSilentLater(): void {
    this.process.after(beatMs, () => {
      if (!this.#stopping) this.delivery.checkSilent(silentMs);
      this.#checkSilentLater();
    });
  }

  *#beat(): Task {
    if (this.#stopping || this.#beating) return;
    this.#beating = true;
    const { redis } = this.#deps;
    const living = yield* this.#connection.call(() => {
      const { relays } = redis.keys;
      relays.set(this.process.name, redis.now);
      for (const [id, at] of relays) if (at <= redis.now - goneMs) relays.delete(id);
      return relays.size;
    });
    this.process.spawn(this.delivery.saveProgress());
    yield* this.#renewShards(Math.ceil(relayShards / Math.max(1, living)));
    this.#beating = false;
  }

  *#renewShards(share: number): Task {
    const kept = yield* this.#keep([...this.#owned], shardLeaseMs);
    for (const shard of [...this.#owned]) if (!kept.has(shard)) yield* this.#lose(shard);
    for (let i = 0; i < relayShards && this.#owned.size < share; i++) {
      const shard = (this.#firstShard + i) % relayShards;
      if (!this.#owned.has(shard)) yield* this.#tryToOwn(shard);
    }
    const [surplus] = this.#owned;
    if (this.#owned.size > share && surplus !== undefined) {
      yield* this.#lose(surplus);
      yield* this.#keep([surplus], 0);
    }
  }

  *#keep(shards: number[], leaseMs: number): Task<Set<number>> {
    if (shards.length === 0) return new Set();
    const { redis } = this.#deps;
    return yield* this.#connection.call(
      () => new Set(shards.filter((shard) => redis.keepShard(shard, this.process.name, leaseMs))),
    );
  }

  *#tryToOwn(shard: number): Task {
    if (!(yield* this.#keep([shard], shardLeaseMs)).has(shard)) return;
    yield* this.#subscriber.subscribe(shardChannel(shard));
    yield* this.#takeUp(shard);
    this.#owned.add(shard);
  }

  *#takeUp(shard: number): Task {
    const { redis } = this.#deps;
    const turnIds = yield* this.#connection.call(() => [
      ...(redis.keys.shardTurns.get(shard) ?? []),
    ]);
    for (const turnId of turnIds) {
      const watchers = yield* this.#connection.call(() => [
        ...(redis.keys.watchers.get(turnId) ?? []),
      ]);
      if (watchers.length === 0) {
        yield* this.#connection.call(() => redis.keys.shardTurns.get(shard)?.delete(turnId));
      }
      for (const [connectionId, progress] of watchers) {
        this.delivery.watch(turnId, connectionId, progress);
      }
    }
  }

  *#lose(shard: number): Task {
    yield* this.#subscriber.unsubscribe(shardChannel(shard));
    yield* this.delivery.saveProgress();
    this.delivery.dropShard(shard);
    this.#owned.delete(shard);
  }
}
