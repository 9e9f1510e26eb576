import { EngineError } from "../engine-error.ts";
import { type PageLayout, pagePositions } from "../model/page-layout.ts";
import type { PagedAttention, RowChunk } from "./kernels.ts";
import type { WasmMemory } from "./wasm-memory.ts";
import type { KernelExports } from "./wasm-module.ts";

/** Queries that are worked on at a time. */
const largestTile = 6;

/** Query heads, behind each other, that share a head of keys and values. */
interface HeadGroup {
  firstHead: number;
  heads: number;
  keyValueHead: number;
}

/** Attention in f32, over pages in a rank's linear memory. */
export class WasmAttention implements PagedAttention {
  readonly #layout: PageLayout;
  readonly #heads: number;
  readonly #groups: HeadGroup[];
  readonly #kernels: KernelExports;
  readonly #memory: WasmMemory;
  readonly #pool: number; // address of [pages, pageLength] f32
  /** Addresses of the pages of the sequence at hand. */
  #table: Int32Array = new Int32Array();
  #scratch = 0; // address of [6, 2 · headSize + positions + 8] f32

  constructor(
    layout: PageLayout,
    heads: readonly number[],
    pages: number,
    memory: WasmMemory,
    kernels: KernelExports,
  ) {
    this.#layout = layout;
    this.#heads = heads.length;
    this.#groups = groupHeads(heads);
    this.#kernels = kernels;
    this.#memory = memory;
    this.#pool = memory.allocate(pages * layout.pageLength * 4);
  }

  store(layer: number, { firstRow, rows, start, pages }: RowChunk, values: Float32Array): void {
    const { keyValueHeads, headSize } = this.#layout.shape;
    for (let row = 0; row < rows; row += 1) {
      const page = this.#addressOf(pages[Math.floor((start + row) / pagePositions)]);
      const offset = (start + row) % pagePositions;
      const at = values.byteOffset + (firstRow + row) * this.#strideBytes;
      for (let head = 0; head < keyValueHeads; head += 1) {
        const key = at + (this.#heads + head) * headSize * 4;
        const value = key + keyValueHeads * headSize * 4;
        const keys = page + this.#layout.keysAt(layer, head) * 4;
        const valuesTo = page + this.#layout.valuesAt(layer, head) * 4;
        this.#kernels.storeKeyValue(key, value, headSize, offset, keys, valuesTo);
      }
    }
  }

  attend(layer: number, chunk: RowChunk, rows: Float32Array, output: Float32Array): void {
    const { headSize } = this.#layout.shape;
    this.#setTable(chunk.pages);
    const outputBytes = this.#heads * headSize * 4;
    const from = rows.byteOffset + chunk.firstRow * this.#strideBytes;
    const to = output.byteOffset + chunk.firstRow * outputBytes;
    for (const { firstHead, heads, keyValueHead } of this.#groups) {
      const headBytes = firstHead * headSize * 4;
      this.#kernels.attend(
        from + headBytes,
        this.#strideBytes,
        to + headBytes,
        outputBytes,
        chunk.rows,
        chunk.start,
        heads,
        headSize,
        1 / Math.sqrt(headSize),
        this.#table.byteOffset,
        this.#layout.keysAt(layer, keyValueHead) * 4,
        this.#layout.valuesAt(layer, keyValueHead) * 4,
        this.#scratch,
      );
    }
  }

  /** Bytes of a row: queries, keys and values. */
  get #strideBytes(): number {
    const { keyValueHeads, headSize } = this.#layout.shape;
    return (this.#heads + 2 * keyValueHeads) * headSize * 4;
  }

  #addressOf(page: number | undefined): number {
    if (page === undefined) throw new EngineError("internal", "A chunk has too few pages.");
    return this.#pool + page * this.#layout.pageLength * 4;
  }

  #setTable(pages: readonly number[]): void {
    if (this.#table.length < pages.length) {
      const room = 2 * pages.length;
      this.#table = this.#memory.integers(room);
      const { headSize } = this.#layout.shape;
      const width = 2 * headSize + room * pagePositions + 8;
      this.#scratch = this.#memory.allocate(largestTile * width * 4);
    }
    for (let i = 0; i < pages.length; i += 1) this.#table[i] = this.#addressOf(pages[i]);
  }
}

/** `heads` gives, for each query head, its head of keys and values, in ascending order. */
function groupHeads(heads: readonly number[]): HeadGroup[] {
  const groups: HeadGroup[] = [];
  heads.forEach((keyValueHead, head) => {
    const last = groups.at(-1);
    if (last?.keyValueHead === keyValueHead) last.heads += 1;
    else groups.push({ firstHead: head, heads: 1, keyValueHead });
  });
  return groups;
}
