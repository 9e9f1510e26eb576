import type { Logger } from "@aws-lambda-powertools/logger";
import {
  type Change,
  type Notice,
  type NoticedFrame,
  noticeSchema,
} from "../../events/observations.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import {
  observerMember,
  observerShardOf,
  observersKey,
  parseObserver,
  relayOf,
} from "../../events/redis-keys.ts";
import type { Connections } from "./connections.ts";

/** A connection is told of the log at most so often. */
const noticeEveryMs = 1_000;
/** One that has not observed anything for longer looks no more. */
const observingMs = 60_000;
/** Of one frame; of more the page asks anew without having been told of each. */
const mostChanges = 100;

export interface NoticeDeps {
  redis: RedisClient;
  connections: Connections;
  logger: Logger;
  relayId: string;
  /** The shards that this relay owns. */
  owned: ReadonlySet<number>;
  /** Unix ms. */
  now: () => number;
}

/**
 * Tells the connections that observe, once a second at most, that the log has grown: those of the relay's own
 * door, and those of API Gateway whose shard it owns. What is lost here is found by whoever asks anew.
 */
export class Notices {
  readonly #deps: NoticeDeps;
  #heard: Notice[] = [];
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> = Promise.resolve();
  #toldAt = Number.NEGATIVE_INFINITY;

  constructor(deps: NoticeDeps) {
    this.#deps = deps;
  }

  /** @throws z.ZodError for what is no notice. */
  hear(message: unknown): void {
    this.#heard.push(noticeSchema.parse(message));
    if (this.#timer !== undefined) return;
    const waitMs = Math.max(0, this.#toldAt + noticeEveryMs - performance.now());
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#toldAt = performance.now();
      const heard = this.#heard.splice(0);
      this.#sending = this.#sending
        .then(() => this.#tell(heard))
        .catch((error: unknown) =>
          this.#deps.logger.warn("observers were not told", { error: error as Error }),
        );
    }, waitMs);
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#sending;
  }

  async #tell(heard: readonly Notice[]): Promise<void> {
    const { redis, now } = this.#deps;
    const members = await redis.zrangebyscore(observersKey, now() - observingMs, "+inf");
    const own = members.map(parseObserver).filter(({ connectionId }) => this.#serves(connectionId));
    await Promise.all(
      own.map(async ({ connectionId, tenantId }) => {
        const changes = heard
          .filter((notice) => notice.tenantId === null || notice.tenantId === tenantId)
          .map(({ change }) => change);
        if (changes.length > 0) await this.#post(connectionId, tenantId, changes);
      }),
    );
  }

  #serves(connectionId: string): boolean {
    const relayId = relayOf(connectionId);
    if (relayId !== undefined) return relayId === this.#deps.relayId;
    return this.#deps.owned.has(observerShardOf(connectionId));
  }

  async #post(connectionId: string, tenantId: string, changes: Change[]): Promise<void> {
    const { connections, redis } = this.#deps;
    const newest = changes.reduce((one, other) => (one.position > other.position ? one : other));
    const frame: NoticedFrame = {
      type: "noticed",
      position: newest.position,
      changes: changes.slice(-mostChanges),
    };
    await connections.ready?.(connectionId);
    if ((await connections.post(connectionId, frame)) === "gone") {
      await redis.zrem(observersKey, observerMember(connectionId, tenantId));
    }
  }
}
