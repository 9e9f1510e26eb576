/** Something that will happen, unless it is taken back before. */
export interface Timer {
  at: number;
  order: number;
  run: (() => void) | undefined;
}

/** Where every schedule begins, ms: epochs, which are times, are easy to tell from sequence numbers. */
const startMs = 1_000_000;

/** A clock that stands still until the next thing happens, and the things that will: a binary heap. */
export class VirtualTime {
  now = startMs;
  #order = 0;
  readonly #heap: Timer[] = [];

  after(ms: number, run: () => void): Timer {
    const timer = { at: this.now + Math.max(0, ms), order: this.#order++, run };
    this.#heap.push(timer);
    this.#rise(this.#heap.length - 1);
    return timer;
  }

  /** Lets the next thing happen. @returns false when nothing will. */
  step(): boolean {
    for (let next = this.#take(); next !== undefined; next = this.#take()) {
      if (next.run === undefined) continue;
      this.now = next.at;
      next.run();
      return true;
    }
    return false;
  }

  #take(): Timer | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    heap[0] = last;
    this.#sink();
    return first;
  }

  #rise(start: number): void {
    const heap = this.#heap;
    for (let i = start; i > 0; ) {
      const parent = (i - 1) >> 1;
      if (!isSooner(heap, i, parent)) return;
      swap(heap, i, parent);
      i = parent;
    }
  }

  #sink(): void {
    const heap = this.#heap;
    for (let i = 0; ; ) {
      const [left, right] = [2 * i + 1, 2 * i + 2];
      let least = i;
      if (left < heap.length && isSooner(heap, left, least)) least = left;
      if (right < heap.length && isSooner(heap, right, least)) least = right;
      if (least === i) return;
      swap(heap, i, least);
      i = least;
    }
  }
}

function isSooner(heap: Timer[], i: number, j: number): boolean {
  const [a, b] = [heap[i] as Timer, heap[j] as Timer];
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

function swap(heap: Timer[], i: number, j: number): void {
  [heap[i], heap[j]] = [heap[j] as Timer, heap[i] as Timer];
}

/**
 * Runs something in virtual time: what it and the code that it calls do with `setTimeout`, `Date.now` and
 * `Math.random` happens there, so that the real client can be part of it unchanged. `run` returns before
 * anything else of this process gets its turn, so nobody else sees the difference.
 */
export function inVirtualTime<T>(time: VirtualTime, random: () => number, run: () => T): T {
  const real = { setTimeout, clearTimeout, now: Date.now, random: Math.random };
  const { assign } = Object;
  assign(globalThis, {
    setTimeout: (callback: () => void, ms = 0) => time.after(ms, callback),
    clearTimeout: (timer: Timer | undefined) => {
      if (timer !== undefined) timer.run = undefined;
    },
  });
  Date.now = () => time.now;
  Math.random = random;
  try {
    return run();
  } finally {
    assign(globalThis, { setTimeout: real.setTimeout, clearTimeout: real.clearTimeout });
    Date.now = real.now;
    Math.random = real.random;
  }
}
