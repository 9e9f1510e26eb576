import { blockPositions, type KeyValueCache } from "./key-value-cache.ts";

/**
 * Grouped-query attention over the cache (Ainslie et al., "GQA", 2023): for one row of queries,
 * softmax(q·Kᵀ / √headSize)·V over the positions 0 … `position` of its slot. All sums run from left to
 * right in f64, so the result does not depend on how the sequence was cut into chunks.
 */
export class Attention {
  readonly #cache: KeyValueCache;
  /** Query heads that share a head of keys and values. */
  readonly #groupSize: number;
  #scores = new Float64Array(blockPositions); // [positions]
  readonly #mixed: Float64Array; // [headSize]

  constructor(cache: KeyValueCache, heads: number) {
    this.#cache = cache;
    this.#groupSize = heads / cache.shape.keyValueHeads;
    this.#mixed = new Float64Array(cache.shape.headSize);
  }

  /** queries [heads, headSize] → output [heads, headSize], this rank's heads. */
  attend(
    layer: number,
    slot: number,
    position: number,
    queries: Float32Array,
    output: Float32Array,
  ): void {
    const { keyValueHeads, headSize } = this.#cache.shape;
    const length = position + 1;
    if (this.#scores.length < length) this.#scores = new Float64Array(2 * length);
    const blocks = this.#cache.blocks(slot);
    for (let head = 0; head < keyValueHeads * this.#groupSize; head += 1) {
      const shared = Math.floor(head / this.#groupSize);
      const query = queries.subarray(head * headSize, (head + 1) * headSize);
      this.#score(query, blocks, this.#cache.keysAt(layer, shared), length);
      softmax(this.#scores, length);
      this.#mix(blocks, this.#cache.valuesAt(layer, shared), length);
      output.set(this.#mixed, head * headSize);
    }
  }

  /** scores[t] = q·k[t] / √headSize, four keys at a time. */
  #score(
    query: Float32Array,
    blocks: readonly Float32Array[],
    keysAt: number,
    length: number,
  ): void {
    const size = query.length;
    const scale = 1 / Math.sqrt(size);
    const scores = this.#scores;
    for (let start = 0; start < length; start += blockPositions) {
      const block = blocks[start / blockPositions] as Float32Array;
      // Scores past `length` are of stale keys; nobody reads them. A block has a multiple of 4.
      const end = Math.min(blockPositions, length - start);
      for (let t = 0; t < end; t += 4) {
        const k0 = keysAt + t * size;
        const k1 = k0 + size;
        const k2 = k1 + size;
        const k3 = k2 + size;
        let s0 = 0;
        let s1 = 0;
        let s2 = 0;
        let s3 = 0;
        for (let i = 0; i < size; i += 1) {
          const q = query[i] as number;
          s0 += q * (block[k0 + i] as number);
          s1 += q * (block[k1 + i] as number);
          s2 += q * (block[k2 + i] as number);
          s3 += q * (block[k3 + i] as number);
        }
        scores[start + t] = s0 * scale;
        scores[start + t + 1] = s1 * scale;
        scores[start + t + 2] = s2 * scale;
        scores[start + t + 3] = s3 * scale;
      }
    }
  }

  /** mixed = Σ scores[t]·v[t] */
  #mix(blocks: readonly Float32Array[], valuesAt: number, length: number): void {
    const mixed = this.#mixed;
    const size = mixed.length;
    const scores = this.#scores;
    mixed.fill(0);
    for (let t = 0; t < length; t += 1) {
      const block = blocks[Math.floor(t / blockPositions)] as Float32Array;
      const score = scores[t] as number;
      const at = valuesAt + (t % blockPositions) * size;
      for (let i = 0; i < size; i += 1) {
        mixed[i] = (mixed[i] as number) + score * (block[at + i] as number);
      }
    }
  }
}

/** In place, over the first `length` scores. */
function softmax(scores: Float64Array, length: number): void {
  let largest = Number.NEGATIVE_INFINITY;
  for (let t = 0; t < length; t += 1) largest = Math.max(largest, scores[t] as number);
  let sum = 0;
  for (let t = 0; t < length; t += 1) {
    const weight = Math.exp((scores[t] as number) - largest);
    scores[t] = weight;
    sum += weight;
  }
  for (let t = 0; t < length; t += 1) scores[t] = (scores[t] as number) / sum;
}
