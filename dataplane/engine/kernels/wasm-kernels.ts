import { EngineError } from "../engine-error.ts";
import type { PageLayout } from "../model/page-layout.ts";
import { createScratch, Int8Matrix, type Int8Scratch, pieceLength } from "./int8-matrix.ts";
import type { Kernels, MatrixPart, PagedAttention, RotaryAngles, WeightMatrix } from "./kernels.ts";
import { WasmAttention } from "./wasm-attention.ts";
import { WasmMemory } from "./wasm-memory.ts";
import { instantiateKernels, type KernelBuild, type KernelModule } from "./wasm-module.ts";

/** Floats in a vector register. */
const lanes = 4;

/** Weights in int8, everything else in f32, in WebAssembly. */
export class WasmKernels implements Kernels {
  readonly #memory = new WasmMemory();
  readonly #module: KernelModule;
  readonly #scratch: Int8Scratch;
  #panel: Float32Array = new Float32Array(); // [16, inputs in whole groups] f32, for loading

  /** What matrices are read through. */
  #piece: Float32Array<ArrayBuffer> = new Float32Array();

  /**
   * `build` forces one of the builds.
   * Throws EngineError "unsupported_machine" where there is no SIMD.
   */
  constructor(build?: KernelBuild) {
    this.#module = instantiateKernels(this.#memory, build);
    this.#scratch = createScratch(this.#memory);
  }

  get build(): KernelBuild {
    return this.#module.build;
  }

  allocate(length: number): Float32Array {
    return this.#memory.floats(length);
  }

  async loadMatrix(parts: readonly MatrixPart[], inputs: number): Promise<WeightMatrix> {
    const outputs = parts.reduce((sum, part) => sum + part.outputs, 0);
    const matrix = new Int8Matrix(outputs, inputs, this.#memory, this.#module, this.#scratch);
    const length = 16 * Math.ceil(inputs / 32) * 32;
    if (this.#panel.length < length) this.#panel = this.#memory.floats(length);
    if (this.#piece.length < inputs) this.#piece = new Float32Array(Math.max(pieceLength, inputs));
    await matrix.load(parts, this.#panel.subarray(0, length), this.#piece);
    return matrix;
  }

  createAttention(layout: PageLayout, heads: readonly number[], pages: number): PagedAttention {
    requireMultiple("head size", layout.shape.headSize, 2 * lanes);
    return new WasmAttention(layout, heads, pages, this.#memory, this.#module.exports);
  }

  rmsNorm(
    x: Float32Array,
    rows: number,
    weight: Float32Array,
    epsilon: number,
    y: Float32Array,
  ): void {
    requireMultiple("hidden size", weight.length, lanes);
    const { rmsNorm } = this.#module.exports;
    rmsNorm(x.byteOffset, rows, weight.length, weight.byteOffset, epsilon, y.byteOffset);
  }

  rotate(x: Float32Array, stride: number, heads: number, angles: RotaryAngles): void {
    const { rows, cosines, sines } = angles;
    const half = cosines.length / rows;
    this.#module.exports.rotate(
      x.byteOffset,
      rows,
      heads,
      half,
      stride * 4,
      cosines.byteOffset,
      sines.byteOffset,
    );
  }

  swiglu(gateUp: Float32Array, rows: number, columns: number, y: Float32Array): void {
    requireMultiple("number of MLP columns of a rank", columns, lanes);
    this.#module.exports.swiglu(gateUp.byteOffset, rows, columns, y.byteOffset);
  }

  add(sum: Float32Array, values: Float32Array, count: number): void {
    this.#module.exports.add(sum.byteOffset, values.byteOffset, count);
  }

  largest(values: Float32Array): number {
    const whole = values.length - (values.length % lanes);
    const most = this.#module.exports.largest(values.byteOffset, whole);
    return Math.max(most, ...values.subarray(whole));
  }

  mass(values: Float32Array, most: number, temperature: number): number {
    const whole = values.length - (values.length % lanes);
    let sum = this.#module.exports.mass(values.byteOffset, whole, most, 1 / temperature);
    for (const value of values.subarray(whole)) sum += Math.exp((value - most) / temperature);
    return sum;
  }
}

function requireMultiple(what: string, size: number, of: number): void {
  if (size % of === 0) return;
  throw new EngineError(
    "unsupported_model",
    `The ${what} is ${size}, no multiple of ${of}, as int8 kernels need; use f32 weights.`,
  );
}
