/**
 * Attention over keys and values in pages of 32 positions. In a page, the keys of a head lie as
 * [headSize, 32] and its values as [32, headSize], so that both products, queries·keys and
 * weights·values, are rows times a matrix with 16 results side by side and no sum over lanes.
 *
 * Two queries are worked on at a time. What one of them gets depends on its own values, its
 * position and the pages, to the last bit, and not on who is beside it.
 */

import { exponential, sumOfLanes } from "./elementwise.as";
import { multiplyAdd } from "./machine.as";

const pagePositions = 32;
const pageRowBytes: usize = 128;

/** Stores one position's key and value [headSize] in its page. */
export function storeKeyValue(
  key: usize, value: usize, headSize: i32, offset: i32, keys: usize, values: usize,
): void {
  memory.copy(values + <usize>(offset * headSize) * 4, value, <usize>headSize << 2);
  let to = keys + (<usize>offset << 2);
  for (let i = 0; i < headSize; i++) {
    store<f32>(to, load<f32>(key));
    to += pageRowBytes;
    key += 4;
  }
}

/** scores [2][16] = (queries a, b [headSize]) · (16 positions of keys), times `scale`. */
@inline
function scoreSixteen(
  a: usize, b: usize, keys: usize, headSize: i32, scale: v128, toA: usize, toB: usize,
): void {
  let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
  let b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  for (let end = a + (<usize>headSize << 2); a < end; a += 4) {
    const qa = v128.load32_splat(a), qb = v128.load32_splat(b);
    const k0 = v128.load(keys, 0), k1 = v128.load(keys, 16);
    const k2 = v128.load(keys, 32), k3 = v128.load(keys, 48);
    a0 = multiplyAdd(qa, k0, a0);
    b0 = multiplyAdd(qb, k0, b0);
    a1 = multiplyAdd(qa, k1, a1);
    b1 = multiplyAdd(qb, k1, b1);
    a2 = multiplyAdd(qa, k2, a2);
    b2 = multiplyAdd(qb, k2, b2);
    a3 = multiplyAdd(qa, k3, a3);
    b3 = multiplyAdd(qb, k3, b3);
    b += 4;
    keys += pageRowBytes;
  }
  v128.store(toA, f32x4.mul(a0, scale), 0);
  v128.store(toA, f32x4.mul(a1, scale), 16);
  v128.store(toA, f32x4.mul(a2, scale), 32);
  v128.store(toA, f32x4.mul(a3, scale), 48);
  v128.store(toB, f32x4.mul(b0, scale), 0);
  v128.store(toB, f32x4.mul(b1, scale), 16);
  v128.store(toB, f32x4.mul(b2, scale), 32);
  v128.store(toB, f32x4.mul(b3, scale), 48);
}

/** Scores [length] become weights exp(score − largest), zeros up to `padded`. Returns their sum. */
function weigh(scores: usize, length: i32, padded: i32): f32 {
  const end = scores + (<usize>length << 2);
  const paddedEnd = scores + (<usize>padded << 2);
  for (let at = end; at < paddedEnd; at += 4) store<f32>(at, -Infinity);
  let largest = f32x4.splat(-Infinity);
  for (let at = scores; at < end; at += 16) largest = f32x4.pmax(largest, v128.load(at));
  const most = f32x4.splat(max(
    max(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1)),
    max(f32x4.extract_lane(largest, 2), f32x4.extract_lane(largest, 3)),
  ));
  for (let at = scores; at < end; at += 32) {
    const first = exponential(f32x4.sub(v128.load(at, 0), most));
    const second = exponential(f32x4.sub(v128.load(at, 16), most));
    v128.store(at, first, 0);
    v128.store(at, second, 16);
  }
  for (let at = end; at < paddedEnd; at += 4) store<f32>(at, 0);
  let sum = f32x4.splat(0);
  for (let at = scores; at < end; at += 16) sum = f32x4.add(sum, v128.load(at));
  return sumOfLanes(sum);
}

/** outputs a, b [16] += weights a, b [positions] · values [positions, 16 of headSize]. */
@inline
function mixSixteen(
  weightsA: usize, weightsB: usize, positions: i32, values: usize, rowBytes: usize,
  toA: usize, toB: usize,
): void {
  let a0 = v128.load(toA, 0), a1 = v128.load(toA, 16);
  let a2 = v128.load(toA, 32), a3 = v128.load(toA, 48);
  let b0 = v128.load(toB, 0), b1 = v128.load(toB, 16);
  let b2 = v128.load(toB, 32), b3 = v128.load(toB, 48);
  for (let end = weightsA + (<usize>positions << 2); weightsA < end; weightsA += 4) {
    const wa = v128.load32_splat(weightsA), wb = v128.load32_splat(weightsB);
    const v0 = v128.load(values, 0), v1 = v128.load(values, 16);
    const v2 = v128.load(values, 32), v3 = v128.load(values, 48);
    a0 = multiplyAdd(wa, v0, a0);
    b0 = multiplyAdd(wb, v0, b0);
    a1 = multiplyAdd(wa, v1, a1);
    b1 = multiplyAdd(wb, v1, b1);
    a2 = multiplyAdd(wa, v2, a2);
    b2 = multiplyAdd(wb, v2, b2);
    a3 = multiplyAdd(wa, v3, a3);
    b3 = multiplyAdd(wb, v3, b3);
    weightsB += 4;
    values += rowBytes;
  }
  v128.store(toA, a0, 0);
  v128.store(toA, a1, 16);
  v128.store(toA, a2, 32);
  v128.store(toA, a3, 48);
  v128.store(toB, b0, 0);
  v128.store(toB, b1, 16);
  v128.store(toB, b2, 32);
  v128.store(toB, b3, 48);
}

/** The same for one query and 4 of headSize: what is left of heads that are no multiple of 16. */
@inline
function mixFour(
  weights: usize, positions: i32, values: usize, rowBytes: usize, to: usize,
): void {
  let sum = v128.load(to);
  for (let end = weights + (<usize>positions << 2); weights < end; weights += 4) {
    sum = multiplyAdd(v128.load32_splat(weights), v128.load(values), sum);
    values += rowBytes;
  }
  v128.store(to, sum);
}

/** x [headSize] *= factor */
function scaleBy(x: usize, headSize: i32, factor: f32): void {
  for (let end = x + (<usize>headSize << 2); x < end; x += 16) {
    v128.store(x, f32x4.mul(v128.load(x), f32x4.splat(factor)));
  }
}

/**
 * softmax(q·Kᵀ·scale)·V for the queries a and b [headSize], which see the first lengthA ≤ lengthB
 * positions. `pages` holds the addresses of the sequence's pages, i32 each; in a page, this head's
 * keys and values begin at the given offsets. `scratch` has room for 2 × the positions of the pages.
 */
function attendPair(
  a: usize, b: usize, lengthA: i32, lengthB: i32, toA: usize, toB: usize, headSize: i32, scale: f32,
  pages: usize, keysOffset: usize, valuesOffset: usize, scratch: usize,
): void {
  const padded = (lengthB + 15) & ~15;
  const scoresA = scratch, scoresB = scratch + (<usize>padded << 2);
  const factor = f32x4.splat(scale);
  for (let at = 0; at < padded; at += 16) {
    const page = <usize>load<u32>(pages + (<usize>(at / pagePositions) << 2));
    const keys = page + keysOffset + (<usize>(at & (pagePositions - 1)) << 2);
    const to = <usize>at << 2;
    scoreSixteen(a, b, keys, headSize, factor, scoresA + to, scoresB + to);
  }
  const sumA = weigh(scoresA, lengthA, padded);
  const sumB = weigh(scoresB, lengthB, padded);
  const rowBytes = <usize>headSize << 2;
  memory.fill(toA, 0, rowBytes);
  memory.fill(toB, 0, rowBytes);
  const wide = headSize & ~15;
  for (let at = 0; at < lengthB; at += pagePositions) {
    const page = <usize>load<u32>(pages + (<usize>(at / pagePositions) << 2));
    const values = page + valuesOffset;
    const positions = min(pagePositions, lengthB - at);
    const wa = scoresA + (<usize>at << 2), wb = scoresB + (<usize>at << 2);
    for (let column = 0; column < wide; column += 16) {
      const to = <usize>column << 2;
      mixSixteen(wa, wb, positions, values + to, rowBytes, toA + to, toB + to);
    }
    for (let column = wide; column < headSize; column += 4) {
      const to = <usize>column << 2;
      mixFour(wa, positions, values + to, rowBytes, toA + to);
      mixFour(wb, positions, values + to, rowBytes, toB + to);
    }
  }
  scaleBy(toA, headSize, 1 / sumA);
  scaleBy(toB, headSize, 1 / sumB);
}

/**
 * All rows of a chunk, for the query heads that share one head of keys and values. A row of
 * `queries` begins `queryStride` bytes after the one before, a row of `to` `toStride` bytes; heads
 * lie behind each other. The first row is at position `start` and sees 0 … start. `spare` [headSize]
 * takes the result of a query that has no partner, computed twice.
 */
export function attend(
  queries: usize, queryStride: usize, to: usize, toStride: usize, rows: i32, start: i32, heads: i32,
  headSize: i32, scale: f32, pages: usize, keysOffset: usize, valuesOffset: usize,
  scratch: usize, spare: usize,
): void {
  const headBytes = <usize>headSize << 2;
  const count = rows * heads;
  for (let i = 0; i < count; i += 2) {
    const rowA = i / heads, headA = <usize>(i % heads) * headBytes;
    const queryA = queries + <usize>rowA * queryStride + headA;
    const toA = to + <usize>rowA * toStride + headA;
    const lengthA = start + rowA + 1;
    if (i + 1 < count) {
      const rowB = (i + 1) / heads, headB = <usize>((i + 1) % heads) * headBytes;
      const queryB = queries + <usize>rowB * queryStride + headB;
      const toB = to + <usize>rowB * toStride + headB;
      attendPair(queryA, queryB, lengthA, start + rowB + 1, toA, toB, headSize, scale,
        pages, keysOffset, valuesOffset, scratch);
    } else {
      attendPair(queryA, queryA, lengthA, lengthA, toA, spare, headSize, scale,
        pages, keysOffset, valuesOffset, scratch);
    }
  }
}
