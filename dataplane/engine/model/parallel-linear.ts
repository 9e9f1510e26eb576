import type { Collective } from "../collectives/collective.ts";
import type { WeightMatrix } from "../kernels/kernels.ts";

/** Each rank computes its own outputs from all inputs. Nothing is communicated. */
export class ColumnParallelLinear {
  readonly #weights: WeightMatrix; // [own outputs, inputs]

  constructor(weights: WeightMatrix) {
    this.#weights = weights;
  }

  /** x [rows, inputs], the same on every rank → y [rows, own outputs]. */
  forward(x: Float32Array, rows: number, y: Float32Array): void {
    this.#weights.multiply(x, rows, y);
  }
}

/** Each rank computes partial sums of all outputs from its own inputs; an all-reduce adds them. */
export class RowParallelLinear {
  readonly #weights: WeightMatrix; // [outputs, own inputs]
  readonly #collective: Collective;

  constructor(weights: WeightMatrix, collective: Collective) {
    this.#weights = weights;
    this.#collective = collective;
  }

  /** x [rows, own inputs] → y [rows, outputs], the same on every rank. */
  async forward(x: Float32Array, rows: number, y: Float32Array): Promise<void> {
    this.#weights.multiply(x, rows, y);
    await this.#collective.allReduce(y.subarray(0, rows * this.#weights.outputs));
  }
}
