import {
  relayShardOf,
  type TurnMessage,
  turnChannel,
  type WatcherProgress,
} from "../../events/redis-keys.ts";
import { MemoryStreams } from "./memory-streams.ts";
import type { RedisConnection } from "./redis-connection.ts";
import type { World } from "./world.ts";

/** What Redis holds beside the token streams, by its keys (docs/PROTOCOL.md, "The token stream"). */
interface Keys {
  /** `turn:{T}:watchers` */
  watchers: Map<string, Map<string, WatcherProgress>>;
  /** `connection:{C}:turns` */
  connectionTurns: Map<string, Set<string>>;
  /** `relay:{S}:turns` */
  shardTurns: Map<number, Set<string>>;
  /** `relay:{S}:lease` */
  shardLeases: Map<number, { holder: string; until: number }>;
  /** `relays` */
  relays: Map<string, number>;
  /** `turn:{T}:sent`: until when it stands. */
  sent: Map<string, number>;
}

const noKeys = (): Keys => ({
  ...{ watchers: new Map(), connectionTurns: new Map(), shardTurns: new Map() },
  ...{ shardLeases: new Map(), relays: new Map(), sent: new Map() },
});

/** Redis: one thing at a time, on one clock; it can be away, and come back with less than it had. */
export class SimulatedRedis {
  readonly streams: MemoryStreams;
  readonly connections = new Set<RedisConnection>();
  keys = noKeys();
  isUp = true;
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
    this.streams = new MemoryStreams({
      now: () => this.now,
      publish: (message) => this.publish(turnChannel(message.turnId), message),
      isWatched: (turnId) => this.keys.watchers.has(turnId),
      ignoreEpochs: world.bugs.appendIgnoresEpochs ?? false,
    });
  }

  /** Whole ms, as the scripts count. */
  get now(): number {
    return Math.floor(this.#world.time.now);
  }

  publish(channel: string, message: TurnMessage | object): void {
    for (const connection of this.connections) connection.hear(channel, message);
  }

  /** @returns what puts everything back as it is now. */
  snapshot(): () => void {
    const restoreStreams = this.streams.snapshot();
    const kept = structuredClone(this.keys);
    return () => {
      restoreStreams();
      this.keys = structuredClone(kept);
    };
  }

  loseAll(): void {
    this.streams.loseAll();
    this.keys = noKeys();
  }

  goAway(): void {
    this.isUp = false;
    for (const connection of this.connections) connection.break();
  }

  comeBack(): void {
    this.isUp = true;
    for (const connection of this.connections) connection.reconnect();
  }

  /** As keep-lease.lua does. */
  keepShard(shard: number, holder: string, leaseMs: number): boolean {
    const lease = this.keys.shardLeases.get(shard);
    if (lease !== undefined && lease.until > this.now && lease.holder !== holder) return false;
    if (leaseMs === 0) this.keys.shardLeases.delete(shard);
    else this.keys.shardLeases.set(shard, { holder, until: this.now + leaseMs });
    return leaseMs > 0;
  }

  /** The entries that say that a connection watches a turn. */
  enterWatcher(turnId: string, connectionId: string, progress: WatcherProgress): void {
    const { watchers } = this.keys;
    const ofTurn = watchers.get(turnId) ?? new Map<string, WatcherProgress>();
    watchers.set(turnId, ofTurn.set(connectionId, progress));
    setIn(this.keys.shardTurns, relayShardOf(turnId)).add(turnId);
    setIn(this.keys.connectionTurns, connectionId).add(turnId);
  }

  /** As note-progress.lua does. */
  noteProgress(turnId: string, connectionId: string, progress: WatcherProgress): void {
    const ofTurn = this.keys.watchers.get(turnId);
    if (ofTurn?.has(connectionId)) ofTurn.set(connectionId, progress);
  }

  removeWatcher(turnId: string, connectionId: string): void {
    const ofTurn = this.keys.watchers.get(turnId);
    ofTurn?.delete(connectionId);
    if (ofTurn?.size === 0) this.keys.watchers.delete(turnId);
  }
}

function setIn<Key, Value>(map: Map<Key, Set<Value>>, key: Key): Set<Value> {
  const set = map.get(key) ?? new Set<Value>();
  map.set(key, set);
  return set;
}
