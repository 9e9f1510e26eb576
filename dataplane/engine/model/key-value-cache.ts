import { EngineError } from "../engine-error.ts";

/** Positions in a block. */
export const blockPositions = 64;
/** Blocks kept for the next sequence; the rest goes back to the system. */
const spareBlocks = 4;

export interface CacheShape {
  layers: number;
  /** Of this rank. */
  keyValueHeads: number;
  headSize: number;
}

/**
 * Keys and values of the sequences in the slots, for this rank's heads. A slot grows by blocks as
 * its sequence does, so that idle slots cost nothing. A block holds 64 positions of all layers:
 * [layers, 2 (keys, values), keyValueHeads, 64, headSize] f32.
 */
export class KeyValueCache {
  readonly shape: CacheShape;
  readonly #blockLength: number;
  readonly #slots = new Map<number, { blocks: Float32Array[]; length: number }>();
  readonly #spare: Float32Array[] = [];

  constructor(shape: CacheShape) {
    this.shape = shape;
    const { layers, keyValueHeads, headSize } = shape;
    this.#blockLength = layers * 2 * keyValueHeads * blockPositions * headSize;
  }

  /** Makes room in a slot for `count` positions from `start` on; at 0 the slot starts afresh. */
  extend(slot: number, start: number, count: number): void {
    if (start === 0) this.release(slot);
    const state = this.#slots.get(slot) ?? { blocks: [], length: 0 };
    if (state.length !== start) {
      const message = `Slot ${slot} holds ${state.length} positions, and ${start} was to come next.`;
      throw new EngineError("internal", message);
    }
    state.length = start + count;
    while (state.blocks.length * blockPositions < state.length) {
      state.blocks.push(this.#spare.pop() ?? new Float32Array(this.#blockLength));
    }
    this.#slots.set(slot, state);
  }

  release(slot: number): void {
    for (const block of this.#slots.get(slot)?.blocks ?? []) {
      if (this.#spare.length < spareBlocks) this.#spare.push(block);
    }
    this.#slots.delete(slot);
  }

  /** The blocks of a slot, in the order of positions. */
  blocks(slot: number): readonly Float32Array[] {
    return this.#slots.get(slot)?.blocks ?? [];
  }

  /** Where, in a block, the keys of a layer's head begin: [64, headSize]. */
  keysAt(layer: number, head: number): number {
    const { keyValueHeads, headSize } = this.shape;
    return (layer * 2 * keyValueHeads + head) * blockPositions * headSize;
  }

  /** Where, in a block, the values of a layer's head begin: [64, headSize]. */
  valuesAt(layer: number, head: number): number {
    const { keyValueHeads, headSize } = this.shape;
    return this.keysAt(layer, head) + keyValueHeads * blockPositions * headSize;
  }

  /** Stores one position's keys and values, each [keyValueHeads, headSize]. */
  store(
    layer: number,
    slot: number,
    position: number,
    keys: Float32Array,
    values: Float32Array,
  ): void {
    const { keyValueHeads, headSize } = this.shape;
    const block = this.blocks(slot)[Math.floor(position / blockPositions)];
    if (block === undefined) {
      throw new EngineError("internal", `Slot ${slot} has no room for position ${position}.`);
    }
    const at = (position % blockPositions) * headSize;
    for (let head = 0; head < keyValueHeads; head += 1) {
      const from = head * headSize;
      block.set(keys.subarray(from, from + headSize), this.keysAt(layer, head) + at);
      block.set(values.subarray(from, from + headSize), this.valuesAt(layer, head) + at);
    }
  }
}
