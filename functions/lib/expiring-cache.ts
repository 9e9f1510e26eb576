/** Values that may be used for a while, of the keys that were set last. */
export class ExpiringCache<Value> {
  readonly #limits: { ttlMs: number; entries: number };
  readonly #now: () => number;
  /** In the order of setting. */
  readonly #entries = new Map<string, { value: Value; until: number }>();

  /** @param now Unix time, ms. */
  constructor(limits: { ttlMs: number; entries: number }, now: () => number) {
    this.#limits = limits;
    this.#now = now;
  }

  get(key: string): Value | undefined {
    const entry = this.#entries.get(key);
    return entry !== undefined && entry.until > this.#now() ? entry.value : undefined;
  }

  set(key: string, value: Value): void {
    this.#entries.delete(key);
    this.#entries.set(key, { value, until: this.#now() + this.#limits.ttlMs });
    if (this.#entries.size <= this.#limits.entries) return;
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined) this.#entries.delete(oldest);
  }
}
