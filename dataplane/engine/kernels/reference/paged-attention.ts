import { type PageLayout, pagePositions } from "../../model/page-layout.ts";
import type { PagedAttention, RowChunk } from "../kernels.ts";

/** Attention in f64 sums, from left to right, one query at a time. */
export class ReferenceAttention implements PagedAttention {
  readonly #layout: PageLayout;
  /** For each query head of this rank, its head of keys and values. */
  readonly #heads: readonly number[];
  readonly #pool: Float32Array; // [pages, pageLength]
  #scores = new Float64Array(pagePositions); // [positions]
  readonly #mixed: Float64Array; // [headSize]

  constructor(layout: PageLayout, heads: readonly number[], pages: number) {
    this.#layout = layout;
    this.#heads = heads;
    this.#pool = new Float32Array(pages * layout.pageLength);
    this.#mixed = new Float64Array(layout.shape.headSize);
  }

  store(layer: number, { firstRow, rows, start, pages }: RowChunk, values: Float32Array): void {
    const { keyValueHeads, headSize } = this.#layout.shape;
    for (let row = 0; row < rows; row += 1) {
      const page = pageAt(pages, start + row) * this.#layout.pageLength;
      const offset = (start + row) % pagePositions;
      for (let head = 0; head < keyValueHeads; head += 1) {
        const keyFrom = (firstRow + row) * this.#stride + (this.#heads.length + head) * headSize;
        const valueFrom = keyFrom + keyValueHeads * headSize;
        const keyTo = page + this.#layout.keysAt(layer, head) + offset;
        const valueTo = page + this.#layout.valuesAt(layer, head) + offset * headSize;
        for (let i = 0; i < headSize; i += 1) {
          this.#pool[keyTo + i * pagePositions] = values[keyFrom + i] as number;
          this.#pool[valueTo + i] = values[valueFrom + i] as number;
        }
      }
    }
  }

  attend(layer: number, chunk: RowChunk, rows: Float32Array, output: Float32Array): void {
    const { headSize } = this.#layout.shape;
    const { firstRow, start, pages } = chunk;
    for (let row = firstRow; row < firstRow + chunk.rows; row += 1) {
      const length = start + (row - firstRow) + 1;
      if (this.#scores.length < length) this.#scores = new Float64Array(2 * length);
      this.#heads.forEach((keyValueHead, head) => {
        const at = row * this.#stride + head * headSize;
        this.#score(rows.subarray(at, at + headSize), layer, keyValueHead, pages, length);
        softmax(this.#scores, length);
        this.#mix(layer, keyValueHead, pages, length);
        output.set(this.#mixed, (row * this.#heads.length + head) * headSize);
      });
    }
  }

  /** Floats in a row: queries, keys and values. */
  get #stride(): number {
    const { keyValueHeads, headSize } = this.#layout.shape;
    return (this.#heads.length + 2 * keyValueHeads) * headSize;
  }

  /** scores[t] = q·k[t] / √headSize */
  #score(
    query: Float32Array,
    layer: number,
    head: number,
    pages: readonly number[],
    length: number,
  ): void {
    const scale = 1 / Math.sqrt(query.length);
    const keysAt = this.#layout.keysAt(layer, head);
    for (let t = 0; t < length; t += 1) {
      const at = pageAt(pages, t) * this.#layout.pageLength + keysAt + (t % pagePositions);
      let sum = 0;
      for (let i = 0; i < query.length; i += 1) {
        sum += (query[i] as number) * (this.#pool[at + i * pagePositions] as number);
      }
      this.#scores[t] = sum * scale;
    }
  }

  /** mixed = Σ scores[t]·v[t] */
  #mix(layer: number, head: number, pages: readonly number[], length: number): void {
    const mixed = this.#mixed;
    const valuesAt = this.#layout.valuesAt(layer, head);
    mixed.fill(0);
    for (let t = 0; t < length; t += 1) {
      const score = this.#scores[t] as number;
      const page = pageAt(pages, t) * this.#layout.pageLength;
      const at = page + valuesAt + (t % pagePositions) * mixed.length;
      for (let i = 0; i < mixed.length; i += 1) {
        mixed[i] = (mixed[i] as number) + score * (this.#pool[at + i] as number);
      }
    }
  }
}

function pageAt(pages: readonly number[], position: number): number {
  return pages[Math.floor(position / pagePositions)] as number;
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
