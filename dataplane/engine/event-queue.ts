/** A queue with one reader that waits for what comes: `push` and `fail` never block. */
export class EventQueue<T> {
  #items: T[] = [];
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  push(item: T): void {
    this.#items.push(item);
    this.#wake?.();
  }

  /** The reader gets what is there, and then this error. */
  fail(error: Error): void {
    this.#error ??= error;
    this.#wake?.();
  }

  /** All that has come since the last call, at least one item. */
  async take(): Promise<T[]> {
    while (this.#items.length === 0) {
      if (this.#error !== undefined) throw this.#error;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const items = this.#items;
    this.#items = [];
    return items;
  }
}
