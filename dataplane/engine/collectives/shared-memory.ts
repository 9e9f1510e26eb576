/**
 * A group of threads over shared memory. Each rank has an exchange area that the others can read;
 * an operation is: write your own, pass a barrier, read the others'.
 *
 * One barrier an operation is enough, because two exchange areas take turns: whoever writes into an
 * area again has passed the barrier of the operation in between, which nobody reaches before they
 * are done reading.
 */

import { EngineError } from "../engine-error.ts";
import { instantiateAdd } from "../kernels/wasm-module.ts";
import type { Collective } from "./collective.ts";

/** Numbers that a rank's exchange area holds; longer operations go piece by piece. */
const areaLength = 16_384;
/**
 * How long a rank looks at the barrier before it goes to sleep. Waking up takes longer than most
 * waits; but a rank whose core is taken by somebody else should not waste its own for long.
 */
const spinMs = 0.06;
/** Looks at the barrier between two looks at the clock. */
const spinsPerLook = 500;

/** Words of the control block, Int32 each. */
const arrivals = 0;
const closed = 1;
const controlBytes = 64;
const pageBytes = 65_536;

/** The memory that all ranks of a group are started with. */
export function allocateSharedGroup(ranks: number): WebAssembly.Memory {
  // Two exchange areas for each rank, and one for its sums.
  const bytes = controlBytes + 3 * ranks * areaLength * 4;
  const pages = Math.ceil(bytes / pageBytes);
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** Ends the group from outside, as when a rank's thread has died: waiting operations throw. */
export function closeSharedGroup(memory: WebAssembly.Memory): void {
  const control = new Int32Array(memory.buffer, 0, 2);
  Atomics.store(control, closed, 1);
  // Arrivals stay as they are: waiters wake up by the notification, and find the group closed.
  Atomics.notify(control, arrivals);
}

export class SharedMemoryCollective implements Collective {
  readonly rank: number;
  readonly size: number;
  readonly #memory: WebAssembly.Memory;
  readonly #control: Int32Array;
  /** By turn and rank: the same memory as floats and as integers. */
  readonly #floats: Float32Array[][];
  readonly #integers: Int32Array[][];
  readonly #sums: Float32Array;
  readonly #add: (sum: Float32Array, values: Float32Array, count: number) => void;
  /** Arrivals at which the last barrier opened. It wraps around, as the counter does. */
  #target = 0;
  #turn: 0 | 1 = 0;
  /** To Node, a thread that waits in shared memory has nothing to do, and may end. */
  readonly #keepAlive = setInterval(() => {}, 60_000);

  constructor(memory: WebAssembly.Memory, rank: number, size: number) {
    this.#memory = memory;
    this.#control = new Int32Array(memory.buffer, 0, 2);
    this.rank = rank;
    this.size = size;
    const ranks = Array.from({ length: size }, (_, other) => other);
    const offset = (area: number) => controlBytes + area * areaLength * 4;
    const areas = [0, 1].map((turn) => ranks.map((other) => offset(turn * size + other)));
    this.#floats = areas.map((turn) => {
      return turn.map((at) => new Float32Array(memory.buffer, at, areaLength));
    });
    this.#integers = areas.map((turn) => {
      return turn.map((at) => new Int32Array(memory.buffer, at, areaLength));
    });
    this.#sums = new Float32Array(memory.buffer, offset(2 * size + rank), areaLength);
    this.#add = adder(memory);
  }

  async allReduce(values: Float32Array): Promise<void> {
    for (let start = 0; start < values.length; start += areaLength) {
      const isWhole = values.length <= areaLength;
      const piece = isWhole ? values : values.subarray(start, start + areaLength);
      const parts = this.#floats[this.#turn] ?? [];
      parts[this.rank]?.set(piece);
      await this.#barrier();
      const sums = this.#sums.subarray(0, piece.length);
      parts.forEach((part, rank) => {
        if (rank === 0) sums.set(part.subarray(0, piece.length));
        else this.#add(sums, part, piece.length);
      });
      piece.set(sums);
      this.#turn ^= 1;
    }
  }

  async gather(slice: Float32Array): Promise<Float32Array | undefined> {
    const whole = this.rank === 0 ? new Float32Array(this.size * slice.length) : undefined;
    for (let start = 0; start < slice.length; start += areaLength) {
      const piece = slice.subarray(start, start + areaLength);
      const parts = this.#floats[this.#turn] ?? [];
      parts[this.rank]?.set(piece);
      await this.#barrier();
      parts.forEach((part, rank) => {
        whole?.set(part.subarray(0, piece.length), rank * slice.length + start);
      });
      this.#turn ^= 1;
    }
    return whole;
  }

  /** The message travels behind its length, so that the others know how many pieces there are. */
  async broadcast(message = new Int32Array()): Promise<Int32Array> {
    const sent = this.rank === 0 ? new Int32Array(1 + message.length) : undefined;
    sent?.set([message.length]);
    sent?.set(message, 1);
    let heard = new Int32Array(1);
    for (let start = 0; start < heard.length; start += areaLength) {
      const piece = this.#integers[this.#turn]?.[0] ?? new Int32Array();
      if (sent !== undefined) piece.set(sent.subarray(start, start + areaLength));
      await this.#barrier();
      if (start === 0) heard = new Int32Array(1 + (piece[0] ?? 0));
      heard.set(piece.subarray(0, heard.length - start), start);
      this.#turn ^= 1;
    }
    return heard.subarray(1);
  }

  close(): void {
    clearInterval(this.#keepAlive);
    closeSharedGroup(this.#memory);
  }

  /**
   * Resolves when all ranks have arrived. The counter of arrivals only grows, so no rank can miss
   * that a barrier was open; it sleeps without blocking its thread.
   */
  async #barrier(): Promise<void> {
    this.#target = (this.#target + this.size) | 0;
    const arrived = (Atomics.add(this.#control, arrivals, 1) + 1) | 0;
    if (arrived === this.#target) Atomics.notify(this.#control, arrivals);
    const giveUpAt = performance.now() + spinMs;
    do {
      for (let spin = 0; this.#isShut() && spin < spinsPerLook; spin += 1);
    } while (this.#isShut() && performance.now() < giveUpAt);
    while (this.#isShut()) {
      const seen = Atomics.load(this.#control, arrivals);
      if (((seen - this.#target) | 0) >= 0) break;
      await Atomics.waitAsync(this.#control as Int32Array<SharedArrayBuffer>, arrivals, seen, 1_000)
        .value;
    }
    if (Atomics.load(this.#control, closed) === 1) {
      clearInterval(this.#keepAlive);
      throw new EngineError("closed", "The group was closed.");
    }
  }

  #isShut(): boolean {
    const missing = (this.#target - Atomics.load(this.#control, arrivals)) | 0;
    return missing > 0 && Atomics.load(this.#control, closed) === 0;
  }
}

/** sum += values over `count` floats of a group's memory: by vectors where there are any. */
function adder(memory: WebAssembly.Memory) {
  const add = instantiateAdd(memory);
  return (sum: Float32Array, values: Float32Array, count: number) => {
    const whole = add === undefined ? 0 : count - (count % 4);
    add?.(sum.byteOffset, values.byteOffset, whole);
    for (let i = whole; i < count; i += 1) sum[i] = (sum[i] as number) + (values[i] as number);
  };
}
