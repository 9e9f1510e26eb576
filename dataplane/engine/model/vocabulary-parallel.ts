import type { Collective } from "../collectives/collective.ts";
import { lengthOf, type ModelShard } from "./shard.ts";
import type { WeightMatrix } from "./weight-matrix.ts";

/** Each rank has the rows of its token ids, and contributes zeros for the others. */
export class VocabularyParallelEmbedding {
  readonly #rows: Float32Array; // [own tokens, hidden] f32
  readonly #shard: ModelShard;
  readonly #collective: Collective;

  constructor(rows: Float32Array, shard: ModelShard, collective: Collective) {
    this.#rows = rows;
    this.#shard = shard;
    this.#collective = collective;
  }

  /** Token ids [rows] → x [rows, hidden], the same on every rank. */
  async forward(tokens: Int32Array, hiddenSize: number, x: Float32Array): Promise<void> {
    const [first, end] = this.#shard.vocabulary;
    tokens.forEach((token, row) => {
      const target = x.subarray(row * hiddenSize, (row + 1) * hiddenSize);
      const at = (token - first) * hiddenSize;
      if (token < first || token >= end) target.fill(0);
      else target.set(this.#rows.subarray(at, at + hiddenSize));
    });
    await this.#collective.allReduce(x.subarray(0, tokens.length * hiddenSize));
  }
}

/** Each rank computes the logits of its token ids; rank 0 gathers the slices. */
export class VocabularyParallelHead {
  readonly #weights: WeightMatrix; // [own tokens, hidden]
  readonly #shard: ModelShard;
  readonly #collective: Collective;
  readonly #vocabularySize: number;

  constructor(
    weights: WeightMatrix,
    shard: ModelShard,
    vocabularySize: number,
    collective: Collective,
  ) {
    this.#weights = weights;
    this.#shard = shard;
    this.#vocabularySize = vocabularySize;
    this.#collective = collective;
  }

  /** x [rows, hidden] → logits [rows, vocabulary] f32 on rank 0, undefined elsewhere. */
  async forward(x: Float32Array, rows: number): Promise<Float32Array | undefined> {
    const { vocabulary, vocabularySlice } = this.#shard;
    const own = new Float32Array(rows * lengthOf(vocabulary)); // [rows, own tokens]
    this.#weights.multiply(x, rows, own);
    const slices = await this.#collective.gather(pad(own, rows, vocabularySlice)); // [ranks, rows, slice]
    if (slices === undefined) return undefined;
    const logits = new Float32Array(rows * this.#vocabularySize); // [rows, vocabulary]
    for (let rank = 0; rank < this.#collective.size; rank += 1) {
      const width = Math.min(vocabularySlice, this.#vocabularySize - rank * vocabularySlice);
      for (let row = 0; row < rows && width > 0; row += 1) {
        const from = (rank * rows + row) * vocabularySlice;
        const to = row * this.#vocabularySize + rank * vocabularySlice;
        logits.set(slices.subarray(from, from + width), to);
      }
    }
    return logits;
  }
}

/** Rows made as wide as the widest rank's, so that all ranks gather slices of one size. */
function pad(values: Float32Array, rows: number, width: number): Float32Array {
  const has = values.length / rows;
  if (has === width) return values;
  const padded = new Float32Array(rows * width);
  for (let row = 0; row < rows; row += 1) {
    padded.set(values.subarray(row * has, (row + 1) * has), row * width);
  }
  return padded;
}
