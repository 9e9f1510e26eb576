import type { Collective } from "../collectives/collective.ts";
import type { Kernels, WeightMatrix } from "../kernels/kernels.ts";
import { lengthOf, type Range } from "./shard.ts";

/** Each rank has the rows of its token ids, and contributes zeros for the others. */
export class VocabularyParallelEmbedding {
  readonly #weights: WeightMatrix; // [own tokens, hidden]
  readonly #vocabulary: Range;
  readonly #collective: Collective;

  constructor(weights: WeightMatrix, vocabulary: Range, collective: Collective) {
    this.#weights = weights;
    this.#vocabulary = vocabulary;
    this.#collective = collective;
  }

  /** Token ids [rows] → x [rows, hidden], the same on every rank. */
  async forward(tokens: Int32Array, x: Float32Array): Promise<void> {
    const [first, end] = this.#vocabulary;
    const width = this.#weights.inputs;
    tokens.forEach((token, row) => {
      const target = x.subarray(row * width, (row + 1) * width);
      if (token < first || token >= end) target.fill(0);
      else this.#weights.readOutput(token - first, target);
    });
    await this.#collective.allReduce(x.subarray(0, tokens.length * width));
  }
}

/** Each rank computes the logits of its own token ids, and keeps them. */
export class VocabularyParallelHead {
  readonly #weights: WeightMatrix; // [own tokens, hidden]
  readonly #vocabulary: Range;
  readonly #kernels: Kernels;
  #logits: Float32Array = new Float32Array(); // [rows, own tokens] f32

  constructor(weights: WeightMatrix, vocabulary: Range, kernels: Kernels) {
    this.#weights = weights;
    this.#vocabulary = vocabulary;
    this.#kernels = kernels;
  }

  /** x [rows, hidden] → for each row the logits of this rank's tokens. They hold until the next call. */
  forward(x: Float32Array, rows: number): Float32Array[] {
    const width = lengthOf(this.#vocabulary);
    const length = rows * width;
    if (this.#logits.length < length) this.#logits = this.#kernels.allocate(length);
    this.#weights.multiply(x, rows, this.#logits);
    return Array.from({ length: rows }, (_, row) => {
      return this.#logits.subarray(row * width, (row + 1) * width);
    });
  }
}
