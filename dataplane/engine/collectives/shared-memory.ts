/**
 * A group of threads over shared memory. Each rank has an exchange area that the others can read;
 * an operation is: write your own, pass a barrier, read the others'.
 *
 * One barrier an operation is enough, because two exchange areas take turns: whoever writes into an
 * area again has passed the barrier of the operation in between, which nobody reaches before they
 * are done reading.
 */

import { EngineError } from "../engine-error.ts";
import type { Collective } from "./collective.ts";

/** Numbers that a rank's exchange area holds; longer operations go piece by piece. */
const areaLength = 16_384;
/** Looks at the barrier before going to sleep: the other ranks are rarely more than that behind. */
const spins = 2_000;

/** Words of the control block, Int32 each. */
const arrivals = 0;
const closed = 1;
const controlBytes = 64;

/** The memory that all ranks of a group are started with. */
export function allocateSharedGroup(ranks: number): SharedArrayBuffer {
  return new SharedArrayBuffer(controlBytes + 2 * ranks * areaLength * 4);
}

/** Ends the group from outside, as when a rank's thread has died: waiting operations throw. */
export function closeSharedGroup(memory: SharedArrayBuffer): void {
  const control = new Int32Array(memory, 0, 2);
  Atomics.store(control, closed, 1);
  // Arrivals stay as they are: waiters wake up by the notification, and find the group closed.
  Atomics.notify(control, arrivals);
}

export class SharedMemoryCollective implements Collective {
  readonly rank: number;
  readonly size: number;
  readonly #memory: SharedArrayBuffer;
  readonly #control: Int32Array<SharedArrayBuffer>;
  /** Arrivals at which the last barrier opened. It wraps around, as the counter does. */
  #target = 0;
  #turn = 0;
  /** To Node, a thread that waits in shared memory has nothing to do, and may end. */
  readonly #keepAlive = setInterval(() => {}, 60_000);

  constructor(memory: SharedArrayBuffer, rank: number, size: number) {
    this.#memory = memory;
    this.#control = new Int32Array(memory, 0, 2);
    this.rank = rank;
    this.size = size;
  }

  async allReduce(values: Float32Array): Promise<void> {
    for (let start = 0; start < values.length; start += areaLength) {
      const piece = values.subarray(start, start + areaLength);
      this.#floats(this.rank).set(piece);
      await this.#barrier();
      piece.set(this.#floats(0).subarray(0, piece.length));
      for (let rank = 1; rank < this.size; rank += 1) {
        const partial = this.#floats(rank);
        for (let i = 0; i < piece.length; i += 1) {
          piece[i] = (piece[i] as number) + (partial[i] as number);
        }
      }
      this.#turn ^= 1;
    }
  }

  async gather(slice: Float32Array): Promise<Float32Array | undefined> {
    const whole = this.rank === 0 ? new Float32Array(this.size * slice.length) : undefined;
    for (let start = 0; start < slice.length; start += areaLength) {
      const piece = slice.subarray(start, start + areaLength);
      this.#floats(this.rank).set(piece);
      await this.#barrier();
      for (let rank = 0; rank < this.size; rank += 1) {
        whole?.set(this.#floats(rank).subarray(0, piece.length), rank * slice.length + start);
      }
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
      if (sent !== undefined) this.#integers(0).set(sent.subarray(start, start + areaLength));
      await this.#barrier();
      const piece = this.#integers(0);
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

  #areaOffset(rank: number): number {
    return controlBytes + (this.#turn * this.size + rank) * areaLength * 4;
  }

  #floats(rank: number): Float32Array {
    return new Float32Array(this.#memory, this.#areaOffset(rank), areaLength);
  }

  #integers(rank: number): Int32Array {
    return new Int32Array(this.#memory, this.#areaOffset(rank), areaLength);
  }

  /**
   * Resolves when all ranks have arrived. The counter of arrivals only grows, so no rank can miss
   * that a barrier was open; it sleeps without blocking its thread.
   */
  async #barrier(): Promise<void> {
    this.#target = (this.#target + this.size) | 0;
    const arrived = (Atomics.add(this.#control, arrivals, 1) + 1) | 0;
    if (arrived === this.#target) Atomics.notify(this.#control, arrivals);
    for (let spin = 0; this.#isShut() && spin < spins; spin += 1);
    while (this.#isShut()) {
      const seen = Atomics.load(this.#control, arrivals);
      if (((seen - this.#target) | 0) >= 0) break;
      await Atomics.waitAsync(this.#control, arrivals, seen, 1_000).value;
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
