import type { Process, Task } from "./process.ts";
import type { SimulatedRedis } from "./redis.ts";
import { travelMs, type World } from "./world.ts";

/** Something asked of Redis, and not answered yet. */
interface Call {
  execute: () => void;
  resume: () => void;
}

/** Who a connection hears notifications for. */
interface Subscriber {
  onMessage: (channel: string, message: unknown) => void;
  /** The connection is back, and the channels are heard again. */
  onBack?: () => void;
}

/**
 * A connection of a long-lived process to Redis, as ioredis keeps one: calls and answers keep their
 * order; when it breaks, whatever has no answer is asked again on the next one, though it may have been
 * done; channels are subscribed again.
 */
export class RedisConnection {
  readonly #world: World;
  readonly #redis: SimulatedRedis;
  readonly #process: Process;
  readonly #subscriber: Subscriber | undefined;
  readonly #channels = new Set<string>();
  readonly #unanswered: Call[] = [];
  #isOpen = true;
  /** Which connection it is: what is on its way on an earlier one arrives nowhere. */
  #generation = 0;
  #lastThere = 0;
  #lastBack = 0;

  constructor(world: World, redis: SimulatedRedis, process: Process, subscriber?: Subscriber) {
    this.#world = world;
    this.#redis = redis;
    this.#process = process;
    this.#subscriber = subscriber;
    this.#isOpen = redis.isUp;
    redis.connections.add(this);
  }

  *call<T>(execute: () => T): Task<T> {
    let reply: T | undefined;
    yield (resume) => {
      const call = {
        execute: () => {
          reply = execute();
        },
        resume,
      };
      this.#unanswered.push(call);
      if (this.#isOpen) this.#transmit(call);
    };
    return reply as T;
  }

  subscribe(channel: string): Task {
    return this.call(() => void this.#channels.add(channel));
  }

  unsubscribe(channel: string): Task {
    return this.call(() => void this.#channels.delete(channel));
  }

  hear(channel: string, message: unknown): void {
    const { random, weather } = this.#world;
    if (!this.#isOpen || !this.#channels.has(channel)) return;
    if (random.chance(weather.lostNotification)) return;
    this.#arriveBack(() => this.#process.wake(() => this.#subscriber?.onMessage(channel, message)));
  }

  break(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#generation++;
    if (this.#redis.isUp) this.reconnect();
  }

  reconnect(): void {
    if (!this.#process.alive) {
      this.#redis.connections.delete(this);
      return;
    }
    const generation = this.#generation;
    this.#world.time.after(this.#world.random.between(5, 300), () =>
      this.#process.wake(() => {
        if (!this.#redis.isUp || this.#isOpen || generation !== this.#generation) return;
        this.#isOpen = true;
        for (const call of this.#unanswered) this.#transmit(call);
        this.#subscriber?.onBack?.();
      }),
    );
  }

  #transmit(call: Call): void {
    const { time, random, weather } = this.#world;
    const generation = this.#generation;
    this.#lastThere = Math.max(this.#lastThere, time.now + travelMs(this.#world));
    time.after(this.#lastThere - time.now, () => {
      if (generation !== this.#generation) return;
      call.execute();
      this.#arriveBack(() => {
        this.#unanswered.splice(this.#unanswered.indexOf(call), 1);
        call.resume();
      });
    });
    if (random.chance(weather.breaks)) {
      time.after(random.between(0, 3), () => {
        if (generation === this.#generation) this.break();
      });
    }
  }

  #arriveBack(run: () => void): void {
    const { time } = this.#world;
    const generation = this.#generation;
    this.#lastBack = Math.max(this.#lastBack, time.now + travelMs(this.#world));
    time.after(this.#lastBack - time.now, () => {
      if (generation === this.#generation) run();
    });
  }
}
