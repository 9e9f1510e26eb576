import type { WeightMatrix } from "../kernels.ts";

/**
 * Weights in f32. Each product is added from left to right to one f64 accumulator of its output, so
 * the order of additions is always the same; speed comes from working on 4 outputs × 2 rows at a
 * time, in 8 independent accumulators. A weight is read from memory once for all rows.
 */
export class Float32Matrix implements WeightMatrix {
  readonly outputs: number;
  readonly inputs: number;
  readonly #weights: Float32Array; // [outputs, inputs] f32

  constructor(weights: Float32Array, outputs: number, inputs: number) {
    this.#weights = weights;
    this.inputs = inputs;
    this.outputs = outputs;
  }

  readOutput(output: number, to: Float32Array): void {
    to.set(this.#weights.subarray(output * this.inputs, (output + 1) * this.inputs));
  }

  multiply(x: Float32Array, rows: number, y: Float32Array): void {
    const tiled = this.outputs - (this.outputs % 4);
    const paired = rows - (rows % 2);
    for (let output = 0; output < tiled; output += 4) {
      for (let row = 0; row < paired; row += 2) this.#fourOutputsTwoRows(x, row, y, output);
      if (paired < rows) this.#fourOutputsOneRow(x, paired, y, output);
    }
    for (let output = tiled; output < this.outputs; output += 1) {
      for (let row = 0; row < rows; row += 1) this.#oneOutput(x, row, y, output);
    }
  }

  #fourOutputsTwoRows(x: Float32Array, row: number, y: Float32Array, output: number): void {
    const { inputs, outputs } = this;
    const w = this.#weights;
    const w0 = output * inputs;
    const w1 = w0 + inputs;
    const w2 = w1 + inputs;
    const w3 = w2 + inputs;
    const xa = row * inputs;
    const xb = xa + inputs;
    let a0 = 0;
    let a1 = 0;
    let a2 = 0;
    let a3 = 0;
    let b0 = 0;
    let b1 = 0;
    let b2 = 0;
    let b3 = 0;
    for (let i = 0; i < inputs; i += 1) {
      const a = x[xa + i] as number;
      const b = x[xb + i] as number;
      const weight0 = w[w0 + i] as number;
      const weight1 = w[w1 + i] as number;
      const weight2 = w[w2 + i] as number;
      const weight3 = w[w3 + i] as number;
      a0 += a * weight0;
      a1 += a * weight1;
      a2 += a * weight2;
      a3 += a * weight3;
      b0 += b * weight0;
      b1 += b * weight1;
      b2 += b * weight2;
      b3 += b * weight3;
    }
    const ya = row * outputs + output;
    const yb = ya + outputs;
    y[ya] = a0;
    y[ya + 1] = a1;
    y[ya + 2] = a2;
    y[ya + 3] = a3;
    y[yb] = b0;
    y[yb + 1] = b1;
    y[yb + 2] = b2;
    y[yb + 3] = b3;
  }

  #fourOutputsOneRow(x: Float32Array, row: number, y: Float32Array, output: number): void {
    const { inputs, outputs } = this;
    const w = this.#weights;
    const w0 = output * inputs;
    const w1 = w0 + inputs;
    const w2 = w1 + inputs;
    const w3 = w2 + inputs;
    const xa = row * inputs;
    let a0 = 0;
    let a1 = 0;
    let a2 = 0;
    let a3 = 0;
    for (let i = 0; i < inputs; i += 1) {
      const a = x[xa + i] as number;
      a0 += a * (w[w0 + i] as number);
      a1 += a * (w[w1 + i] as number);
      a2 += a * (w[w2 + i] as number);
      a3 += a * (w[w3 + i] as number);
    }
    const ya = row * outputs + output;
    y[ya] = a0;
    y[ya + 1] = a1;
    y[ya + 2] = a2;
    y[ya + 3] = a3;
  }

  #oneOutput(x: Float32Array, row: number, y: Float32Array, output: number): void {
    const { inputs, outputs } = this;
    const w = this.#weights;
    const w0 = output * inputs;
    const xa = row * inputs;
    let sum = 0;
    for (let i = 0; i < inputs; i += 1) sum += (x[xa + i] as number) * (w[w0 + i] as number);
    y[row * outputs + output] = sum;
  }
}
