/**
 * A step plan says what one pass through the model computes. Rank 0 gets it from the scheduler and
 * broadcasts it; every rank then does the same on its own slices. Ranks remember nothing of a
 * sequence: a plan names the pages of all that it runs. Prefill and decode are the same thing here: a
 * chunk of a sequence's next tokens, one of them or many.
 */

/** How each rank picks, among its own tokens, the candidates for the next one. */
export interface Pick {
  /** So many of the likeliest. */
  count: number;
  /** 0 is greedy. */
  temperature: number;
  /** Divides the positive and multiplies the negative logits of `penalized`; 1 is off. */
  repetitionPenalty: number;
  /** Token ids, each once; empty when there is no penalty. */
  penalized: readonly number[];
}

export interface PlanChunk {
  /** Pages of the sequence in the order of positions, as far as it reaches with this chunk. */
  pages: readonly number[];
  /** Position of the chunk's first token in its sequence. What is before it is in the pages. */
  start: number;
  tokens: readonly number[];
  /** Set when a token is drawn after the chunk's last one. */
  pick?: Pick;
}

export interface StepPlan {
  chunks: readonly PlanChunk[];
}

/** Rank 0 found the candidates of a chunk too few to draw from, and asks for more of them. */
interface MoreCandidates {
  /** Index among the plan's chunks that draw. */
  draw: number;
  count: number;
}

export type RankOrder = { kind: "step"; plan: StepPlan } | ({ kind: "more" } & MoreCandidates);

/** Rows that the step sends through the model, one a token. */
export function rowsOf(plan: StepPlan): number {
  return plan.chunks.reduce((rows, chunk) => rows + chunk.tokens.length, 0);
}

const orderKinds = { step: 0, more: 1 } as const;

/**
 * An order as integers, for the wire. More candidates: 1, draw, count. A step: 0, and then for each
 * chunk start, pages, tokens and pick. A list is its length and its items; a pick is a list as well,
 * an empty one where there is none: count, temperature and penalty (f64, as two integers each), and
 * the penalized tokens.
 */
export function encodeOrder(order: RankOrder): Int32Array<ArrayBuffer> {
  if (order.kind === "more") return Int32Array.of(orderKinds.more, order.draw, order.count);
  const numbers: number[] = [orderKinds.step];
  for (const { start, pages, tokens, pick } of order.plan.chunks) {
    numbers.push(start, pages.length, ...pages, tokens.length, ...tokens);
    if (pick === undefined) {
      numbers.push(0);
      continue;
    }
    const { count, temperature, repetitionPenalty, penalized } = pick;
    numbers.push(5 + penalized.length, count, ...words(temperature), ...words(repetitionPenalty));
    numbers.push(...penalized);
  }
  return Int32Array.from(numbers);
}

/** The inverse of `encodeOrder`. */
export function decodeOrder(encoded: Int32Array): RankOrder {
  if (encoded[0] === orderKinds.more) {
    return { kind: "more", draw: encoded[1] ?? 0, count: encoded[2] ?? 0 };
  }
  let next = 1;
  const number = () => encoded[next++] ?? 0;
  const list = () => {
    const length = number();
    next += length;
    return Array.from(encoded.subarray(next - length, next));
  };
  const chunks: PlanChunk[] = [];
  while (next < encoded.length) {
    const chunk = { start: number(), pages: list(), tokens: list() };
    const [count, ...pick] = list();
    if (count === undefined) {
      chunks.push(chunk);
      continue;
    }
    const temperature = fromWords(pick[0], pick[1]);
    const repetitionPenalty = fromWords(pick[2], pick[3]);
    chunks.push({
      ...chunk,
      pick: { count, temperature, repetitionPenalty, penalized: pick.slice(4) },
    });
  }
  return { kind: "step", plan: { chunks } };
}

const converted = new Float64Array(1);
const convertedWords = new Int32Array(converted.buffer);

function words(value: number): [number, number] {
  converted[0] = value;
  return [convertedWords[0] ?? 0, convertedWords[1] ?? 0];
}

function fromWords(first = 0, second = 0): number {
  convertedWords.set([first, second]);
  return converted[0] ?? 0;
}
