import type { RedisClient } from "../events/redis-client.ts";

const askMs = 1_000;
/** Redis counts as away when it has not answered for so long. */
const awayMs = 5_000;

/** Asks Redis once a second whether it is there. */
export class RedisPulse {
  readonly #timer: NodeJS.Timeout;
  #answeredAt = Number.NEGATIVE_INFINITY;

  constructor(redis: RedisClient) {
    // A client that waits for its connection answers late; until then nothing more is asked.
    let isWaiting = false;
    const ask = () => {
      if (isWaiting) return;
      isWaiting = true;
      redis
        .ping()
        .then(() => {
          this.#answeredAt = performance.now();
        })
        // The next question tells.
        .catch(() => {})
        .finally(() => {
          isWaiting = false;
        });
    };
    this.#timer = setInterval(ask, askMs);
    ask();
  }

  get isAway(): boolean {
    return performance.now() - this.#answeredAt > awayMs;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
