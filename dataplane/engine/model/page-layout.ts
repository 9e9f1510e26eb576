/** Positions in a page. The kernels are written for this number. */
export const pagePositions = 32;

/** Dimensions of one rank's keys and values. */
export interface CacheShape {
  layers: number;
  /** Of this rank. */
  keyValueHeads: number;
  headSize: number;
}

/**
 * Where keys and values lie in a page. A page holds 32 positions of one sequence, for all layers:
 * [layers, keyValueHeads, 2, …] f32, the keys of a head as [headSize, 32], its values as
 * [32, headSize]. So both products of attention have their results side by side in memory.
 */
export class PageLayout {
  readonly shape: CacheShape;
  /** Floats in a page. */
  readonly pageLength: number;
  readonly #headLength: number;

  constructor(shape: CacheShape) {
    this.shape = shape;
    this.#headLength = pagePositions * shape.headSize;
    this.pageLength = shape.layers * shape.keyValueHeads * 2 * this.#headLength;
  }

  /** Where in a page the keys of a layer's head begin. */
  keysAt(layer: number, head: number): number {
    return (layer * this.shape.keyValueHeads + head) * 2 * this.#headLength;
  }

  /** Where in a page the values of a layer's head begin. */
  valuesAt(layer: number, head: number): number {
    return this.keysAt(layer, head) + this.#headLength;
  }
}

/** Pages that so many positions take. */
export function pagesFor(positions: number): number {
  return Math.ceil(positions / pagePositions);
}
