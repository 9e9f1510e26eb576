/**
 * What the ranks of a group do together. Every rank calls the same operations in the same order;
 * each resolves when the rank may go on. A rank that is lost makes all of them throw EngineError.
 */
export interface Collective {
  readonly rank: number;
  /** Ranks in the group. */
  readonly size: number;
  /**
   * Replaces `values` by the sum over all ranks, added in the order of ranks: the result is the
   * same on all of them, to the last bit, and the same in every run.
   */
  allReduce(values: Float32Array): Promise<void>;
  /** On rank 0, all ranks' slices behind each other: [size, slice.length]; undefined elsewhere. */
  gather(slice: Float32Array): Promise<Float32Array | undefined>;
  /** Rank 0's message on every rank; the others' argument is not looked at. */
  broadcast(message?: Int32Array<ArrayBuffer>): Promise<Int32Array>;
  /** Leaves the group, which ends it. */
  close(): void;
}

/** The group of one. */
export class SoloCollective implements Collective {
  readonly rank = 0;
  readonly size = 1;

  async allReduce(): Promise<void> {}

  async gather(slice: Float32Array): Promise<Float32Array> {
    return slice;
  }

  async broadcast(message = new Int32Array()): Promise<Int32Array> {
    return message;
  }

  close(): void {}
}
