import type { PageLayout } from "../model/page-layout.ts";

/**
 * What a rank computes with. There are two sets of kernels: f32 in TypeScript, which is the reference,
 * and int8 weights in WebAssembly, which is fast. Buffers come from `allocate`: a set of kernels
 * works on its own memory only.
 */
export interface Kernels {
  /** Memory for so many floats, zeros at first. It is never given back. */
  allocate(length: number): Float32Array;
  /** Reads a matrix row by row, as it is kept here. */
  loadMatrix(parts: readonly MatrixPart[], inputs: number): Promise<WeightMatrix>;
  /** Pages of keys and values, and attention over them. */
  createAttention(layout: PageLayout, heads: readonly number[], pages: number): PagedAttention;
  /** y [rows, width] = x / rms(x) · weight [width], row by row. */
  rmsNorm(
    x: Float32Array,
    rows: number,
    weight: Float32Array,
    epsilon: number,
    y: Float32Array,
  ): void;
  /** Turns, in place, the first `heads` heads of each row of x [rows, stride] by the row's angles. */
  rotate(x: Float32Array, stride: number, heads: number, angles: RotaryAngles): void;
  /** y [rows, columns] = silu(gate)·up; gateUp is [rows, 2·columns], in each row gate before up. */
  swiglu(gateUp: Float32Array, rows: number, columns: number, y: Float32Array): void;
  /** sum += values, over the first `count`. */
  add(sum: Float32Array, values: Float32Array, count: number): void;
  /** The largest value; NaN if there is any. */
  largest(values: Float32Array): number;
  /** Σ exp((value − most) / temperature) */
  mass(values: Float32Array, most: number, temperature: number): number;
}

/** Some outputs of a matrix, in the order in which they are stacked. */
export interface MatrixPart {
  outputs: number;
  /** Outputs first … end of this part, [end − first, inputs] f32: the beginning of `into`, if given. */
  read(first: number, end: number, into?: Float32Array<ArrayBuffer>): Promise<Float32Array>;
}

/**
 * Matrix times activations. An implementation keeps this promise, on which everything above
 * relies: the value of y[row, output] depends on x[row] and W[output] alone, to the last bit. It does
 * not matter how many rows run together, or which ones.
 */
export interface WeightMatrix {
  readonly outputs: number;
  readonly inputs: number;
  /** y = x·Wᵀ for the first `rows` rows; x is [rows, inputs] f32, y is [rows, outputs] f32. */
  multiply(x: Float32Array, rows: number, y: Float32Array): void;
  /** One output's weights, [inputs] f32. */
  readOutput(output: number, to: Float32Array): void;
}

/** Cosines and sines of the positions of a step's rows, each [rows, headSize / 2]. */
export interface RotaryAngles {
  rows: number;
  cosines: Float32Array;
  sines: Float32Array;
}

/** Rows of a step that belong to one sequence, at consecutive positions. */
export interface RowChunk {
  /** Index of its first row in the step. */
  firstRow: number;
  rows: number;
  /** Position of its first row in the sequence. */
  start: number;
  /** The pages of the sequence, in the order of positions, as far as it reaches with this chunk. */
  pages: readonly number[];
}

/**
 * Grouped-query attention (Ainslie et al., "GQA", 2023) over keys and values in pages. In a step,
 * rows are [rows, stride] with this rank's queries, then its keys, then its values.
 *
 * What a row gets depends on its queries, its position and the keys and values before it, to the
 * last bit: not on how its sequence was cut into chunks, nor on which pages it has.
 */
export interface PagedAttention {
  /** Puts the keys and values of a chunk's rows into its pages. */
  store(layer: number, chunk: RowChunk, rows: Float32Array): void;
  /** softmax(q·Kᵀ / √headSize)·V: into `output`, [rows, heads, headSize] of the whole step. */
  attend(layer: number, chunk: RowChunk, rows: Float32Array, output: Float32Array): void;
}
