import type { MatrixPart, WeightMatrix } from "./kernels.ts";
import type { WasmMemory } from "./wasm-memory.ts";
import type { KernelModule } from "./wasm-module.ts";

const panelOutputs = 16;
const groupInputs = 32;
const blockBytes = 544;
/** Rows are read from the checkpoint in pieces of so many floats, if a row is not longer. */
export const pieceLength = 1 << 18;

/** Activations as int8, and where a product goes whose rows are no whole panels. */
export interface Int8Scratch {
  /** [rows, inputs] f32, for rows that have to be widened to whole groups. */
  widened(length: number): Float32Array;
  /** [rows, inputs] of one or two bytes */
  quantized(bytes: number): number;
  /** [rows, groups] f32 */
  scales(length: number): number;
  /** [rows, groups] i32 */
  starts(length: number): number;
  /** [rows, outputs in whole panels] f32 */
  products(length: number): Float32Array;
}

/** Buffers that grow to the largest step and are used by all matrices of a rank. */
export function createScratch(memory: WasmMemory): Int8Scratch {
  const grown = () => {
    let buffer: Float32Array = new Float32Array();
    return (length: number) => {
      if (buffer.length < length) buffer = memory.floats(length);
      return buffer;
    };
  };
  const [widened, quantized, scales, starts, products] = [
    grown(),
    grown(),
    grown(),
    grown(),
    grown(),
  ];
  return {
    widened,
    products,
    quantized: (bytes) => quantized(Math.ceil(bytes / 4)).byteOffset,
    scales: (length) => scales(length).byteOffset,
    starts: (length) => starts(length).byteOffset,
  };
}

/**
 * Weights in int8 with one scale for 32 inputs of an output; activations are quantized the same way
 * just before they are multiplied. Products are summed exactly within 32 inputs, and in f32 from group
 * to group. wasm/int8-matrix.as.ts describes how they lie in memory.
 */
export class Int8Matrix implements WeightMatrix {
  readonly outputs: number;
  readonly inputs: number;
  readonly #groups: number;
  readonly #panels: number; // address of [outputs / 16, groups] blocks
  readonly #kernels: KernelModule;
  readonly #scratch: Int8Scratch;

  constructor(
    outputs: number,
    inputs: number,
    memory: WasmMemory,
    kernels: KernelModule,
    scratch: Int8Scratch,
  ) {
    this.outputs = outputs;
    this.inputs = inputs;
    this.#groups = Math.ceil(inputs / groupInputs);
    this.#panels = memory.allocate(Math.ceil(outputs / panelOutputs) * this.#panelBytes);
    this.#kernels = kernels;
    this.#scratch = scratch;
  }

  /**
   * Reads and quantizes the weights, a piece at a time. `panel` is [16, inputs in whole groups]; `piece`
   * has room for a row or more.
   */
  async load(
    parts: readonly MatrixPart[],
    panel: Float32Array,
    piece: Float32Array<ArrayBuffer>,
  ): Promise<void> {
    const width = this.#groups * groupInputs;
    const rowsAtOnce = Math.floor(piece.length / this.inputs);
    let output = 0;
    panel.fill(0);
    for (const part of parts) {
      for (let first = 0; first < part.outputs; first += rowsAtOnce) {
        const end = Math.min(first + rowsAtOnce, part.outputs);
        const rows = await part.read(first, end, piece);
        for (let row = 0; row < end - first; row += 1) {
          const weights = rows.subarray(row * this.inputs, (row + 1) * this.inputs);
          panel.set(weights, (output % panelOutputs) * width);
          output += 1;
          if (output % panelOutputs === 0) this.#pack(panel, output / panelOutputs - 1);
        }
      }
    }
    const left = output % panelOutputs;
    if (left === 0) return;
    panel.fill(0, left * width);
    this.#pack(panel, Math.floor(output / panelOutputs));
  }

  multiply(x: Float32Array, rows: number, y: Float32Array): void {
    const { exports, weightOffset, activationBytes } = this.#kernels;
    const width = this.#groups * groupInputs;
    const source = width === this.inputs ? x : this.#widen(x, rows, width);
    const quantized = this.#scratch.quantized(rows * width * activationBytes);
    const scales = this.#scratch.scales(rows * this.#groups);
    const starts = this.#scratch.starts(rows * this.#groups);
    exports.quantizeRows(
      source.byteOffset,
      rows,
      this.#groups,
      weightOffset,
      quantized,
      scales,
      starts,
    );
    const outputs = Math.ceil(this.outputs / panelOutputs) * panelOutputs;
    const target = outputs === this.outputs ? y : this.#scratch.products(rows * outputs);
    const to = target.byteOffset;
    const sizes = [this.#panels, outputs, this.#groups, quantized] as const;
    if (rows === 1) exports.multiplyRow(...sizes, scales, starts, to);
    else exports.multiplyRows(...sizes, rows, scales, starts, to);
    if (target === y) return;
    for (let row = 0; row < rows; row += 1) {
      y.set(target.subarray(row * outputs, row * outputs + this.outputs), row * this.outputs);
    }
  }

  readOutput(output: number, to: Float32Array): void {
    const { exports, weightOffset } = this.#kernels;
    const panel = this.#panels + Math.floor(output / panelOutputs) * this.#panelBytes;
    const width = this.#groups * groupInputs;
    const whole = width === this.inputs ? to : this.#scratch.widened(width);
    const within = output % panelOutputs;
    exports.unpackOutput(panel, this.#groups, weightOffset, within, whole.byteOffset);
    if (whole !== to) to.set(whole.subarray(0, this.inputs));
  }

  get #panelBytes(): number {
    return this.#groups * blockBytes;
  }

  #pack(panel: Float32Array, index: number): void {
    const { exports, weightOffset } = this.#kernels;
    const to = this.#panels + index * this.#panelBytes;
    exports.packPanel(panel.byteOffset, this.#groups, weightOffset, to);
  }

  /** Rows of x with zeros behind, up to whole groups. */
  #widen(x: Float32Array, rows: number, width: number): Float32Array {
    const widened = this.#scratch.widened(rows * width);
    for (let row = 0; row < rows; row += 1) {
      widened.set(x.subarray(row * this.inputs, (row + 1) * this.inputs), row * width);
      widened.fill(0, row * width + this.inputs, (row + 1) * width);
    }
    return widened;
  }
}
