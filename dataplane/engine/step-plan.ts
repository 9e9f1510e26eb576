/**
 * A step plan says what one pass through the model computes. Rank 0 gets it from the scheduler and
 * broadcasts it; every rank then does the same on its own slices. Prefill and decode are the same
 * thing here: a chunk of a sequence's next tokens, one of them or many.
 */

export interface PlanChunk {
  /** The slot whose keys and values the chunk reads and extends. */
  slot: number;
  /** Position of the chunk's first token in its sequence; a slot starts afresh at 0. */
  start: number;
  tokens: readonly number[];
  /** Whether the logits after the chunk's last token are wanted. */
  wantsLogits: boolean;
}

export interface StepPlan {
  /** Slots whose sequence is over: their keys and values can go. Freed before the chunks run. */
  released: readonly number[];
  chunks: readonly PlanChunk[];
}

/** Rows that the step sends through the model, one a token. */
export function rowsOf(plan: StepPlan): number {
  return plan.chunks.reduce((rows, chunk) => rows + chunk.tokens.length, 0);
}

/**
 * The plan as integers, for the wire: the number of released slots, these, and then for each chunk
 * slot, start, wantsLogits (0 or 1), number of tokens, tokens.
 */
export function encodePlan(plan: StepPlan): Int32Array<ArrayBuffer> {
  const numbers = [plan.released.length, ...plan.released];
  for (const { slot, start, tokens, wantsLogits } of plan.chunks) {
    numbers.push(slot, start, wantsLogits ? 1 : 0, tokens.length, ...tokens);
  }
  return Int32Array.from(numbers);
}

/** The inverse of `encodePlan`. */
export function decodePlan(encoded: Int32Array): StepPlan {
  const numbers = Array.from(encoded);
  const [releasedCount = 0] = numbers;
  let next = 1 + releasedCount;
  const released = numbers.slice(1, next);
  const chunks: PlanChunk[] = [];
  while (next < numbers.length) {
    const [slot = 0, start = 0, wantsLogits = 0, count = 0] = numbers.slice(next, next + 4);
    const tokens = numbers.slice(next + 4, next + 4 + count);
    chunks.push({ slot, start, tokens, wantsLogits: wantsLogits === 1 });
    next += 4 + count;
  }
  return { released, chunks };
}
