import type { RedisClient } from "../events/redis-client.ts";
import { GroupError } from "./group-error.ts";
import { type Beat, type LeadState, leadGroup, lookMs, silentMs } from "./group-roll.ts";

interface WatchOptions {
  redis: RedisClient;
  groupId: string;
  /** Nodes of the group without the leader's own: ranks 1 to this. */
  followers: number;
  /** Milliseconds that never go back. */
  now: () => number;
  /** Redis could not be asked; it is asked again. */
  onError: (error: unknown) => void;
}

/**
 * The leader's eyes on the other nodes of its group.
 *
 * - forming: the epoch is announced; followers join. One that says that it is gone ends the group; one
 *   that is not there yet is waited for. Exits: `ready()`, failed.
 * - ready: every follower has to be heard of. One that says it is gone, or is silent for `silentMs`,
 *   ends the group. Exits: `close()`, failed.
 * - failed: once, with the reason. A tensor-parallel group with a missing shard has nothing right to say.
 * - closed: the turns have ended, and followers may let their engines go.
 *
 * Silence counts only while Redis can be asked and this process runs: after a pause of either, every
 * follower gets its time anew.
 */
export class FollowerWatch {
  readonly #options: WatchOptions;
  /** When each rank was last heard of, by `now`, and which beat it was. */
  readonly #heard = new Map<number, { at: number; count: number }>();
  readonly #failure = Promise.withResolvers<never>();
  readonly #allPresent = Promise.withResolvers<void>();
  #epoch = 0;
  #state: LeadState = "opening";
  #looking: NodeJS.Timeout | undefined;
  #lookedAt = 0;
  #isBusy = false;

  constructor(options: WatchOptions) {
    this.#options = options;
    this.#failure.promise.catch(() => {});
  }

  get epoch(): number {
    return this.#epoch;
  }

  /** Rejects with a GroupError when the group is over; never resolves. */
  get failure(): Promise<never> {
    return this.#failure.promise;
  }

  /** Takes the group's next epoch, the time in ms at least, and begins to look for followers. */
  async open(epoch: number): Promise<void> {
    this.#lookedAt = this.#options.now();
    const { redis, groupId } = this.#options;
    const lead = await leadGroup(redis, groupId, { epoch, state: "opening" });
    this.#epoch = lead.epoch;
    this.#state = "forming";
    this.#looking = setInterval(() => void this.#lookOnce(), lookMs);
  }

  /** Resolves when every follower has joined. */
  present(): Promise<void> {
    return Promise.race([this.#allPresent.promise, this.failure]);
  }

  /** From now on a follower that is missing ends the group. */
  ready(): void {
    this.#state = "ready";
    for (const beat of this.#heard.values()) beat.at = this.#options.now();
  }

  /** Ranks that have not joined, or are silent. */
  missing(): number[] {
    const { followers, now } = this.#options;
    return Array.from({ length: followers }, (_, i) => i + 1).filter((rank) => {
      const heard = this.#heard.get(rank);
      return heard === undefined || now() - heard.at > silentMs;
    });
  }

  /** Lets the followers go. */
  async close(): Promise<void> {
    clearInterval(this.#looking);
    this.#state = "closed";
    const { redis, groupId, onError } = this.#options;
    await leadGroup(redis, groupId, { epoch: this.#epoch, state: "closed" }).catch(onError);
  }

  async #lookOnce(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      const { redis, groupId, now } = this.#options;
      const lead = await leadGroup(redis, groupId, { epoch: this.#epoch, state: this.#state });
      // Timers that ran late, and calls that took long, say nothing of the followers.
      const wasPaused = now() - this.#lookedAt > 4 * lookMs;
      this.#lookedAt = now();
      if (lead.epoch > this.#epoch) this.#fail("superseded", "Another leader has the group.");
      this.#note(lead.beats);
      if (wasPaused) for (const beat of this.#heard.values()) beat.at = now();
      this.#judge();
    } catch (error) {
      this.#options.onError(error);
    } finally {
      this.#isBusy = false;
    }
  }

  #note(beats: Map<number, Beat>): void {
    for (const [rank, { epoch, count, gone }] of beats) {
      if (epoch !== this.#epoch || rank < 1 || rank > this.#options.followers) continue;
      if (gone !== undefined) this.#fail("follower_lost", `Follower ${rank} is gone: ${gone}.`);
      if (this.#heard.get(rank)?.count === count) continue;
      this.#heard.set(rank, { at: this.#options.now(), count });
    }
  }

  #judge(): void {
    const [first] = this.missing();
    if (first === undefined) this.#allPresent.resolve();
    else if (this.#state === "ready") {
      this.#fail(
        "follower_lost",
        `Follower ${first} has not been heard of for ${silentMs / 1_000} s.`,
      );
    }
  }

  #fail(code: "follower_lost" | "superseded", message: string): void {
    clearInterval(this.#looking);
    this.#failure.reject(new GroupError(code, message));
  }
}
