import type { PageLayout } from "../../model/page-layout.ts";
import type { Kernels, MatrixPart, PagedAttention, WeightMatrix } from "../kernels.ts";
import { Float32Matrix } from "./float32-matrix.ts";
import { ReferenceAttention } from "./paged-attention.ts";
import { rmsNorm } from "./rms-norm.ts";
import { rotate } from "./rotate.ts";
import { swiglu } from "./swiglu.ts";

/** Weights in f32, plain TypeScript, sums in f64: what the fast kernels are measured against. */
export class ReferenceKernels implements Kernels {
  readonly rmsNorm = rmsNorm;
  readonly rotate = rotate;
  readonly swiglu = swiglu;

  allocate(length: number): Float32Array {
    return new Float32Array(length);
  }

  async loadMatrix(parts: readonly MatrixPart[], inputs: number): Promise<WeightMatrix> {
    const outputs = parts.reduce((sum, part) => sum + part.outputs, 0);
    const weights = new Float32Array(outputs * inputs);
    let at = 0;
    for (const part of parts) {
      weights.set(await part.read(0, part.outputs), at);
      at += part.outputs * inputs;
    }
    return new Float32Matrix(weights, outputs, inputs);
  }

  createAttention(layout: PageLayout, heads: readonly number[], pages: number): PagedAttention {
    return new ReferenceAttention(layout, heads, pages);
  }

  add(sum: Float32Array, values: Float32Array, count: number): void {
    for (let i = 0; i < count; i += 1) sum[i] = (sum[i] as number) + (values[i] as number);
  }

  largest(values: Float32Array): number {
    let most = Number.NEGATIVE_INFINITY;
    for (const value of values) most = Math.max(most, value);
    return most;
  }

  mass(values: Float32Array, most: number, temperature: number): number {
    let sum = 0;
    for (const value of values) sum += Math.exp((value - most) / temperature);
    return sum;
  }
}
