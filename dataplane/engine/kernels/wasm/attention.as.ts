/**
 * Attention over keys and values in pages of 32 positions. In a page, the keys of a head lie as
 * [headSize, 32] and its values as [32, headSize], so that both products, queries·keys and
 * weights·values, are rows times a matrix, with results side by side and no sum over lanes.
 *
 * Queries are worked on in tiles of six, which is what the registers hold (12 sums of 4, two vectors
 * of the matrix and one of a query), or of three: as many as often share a head while decoding. What a
 * query gets depends on its own values, its position and the pages, to the last bit, and not on
 * who is beside it.
 */

import {
  coefficient1, coefficient2, coefficient3, coefficient4, coefficient5, coefficient6, exponentBias,
  least, log2e, most, powerOfTwo, sumOfLanes,
} from "./elementwise.as";
import { multiplyAdd } from "./machine.as";

const pagePositions = 32;
const pageRowBytes: usize = 128;
/** Results side by side, and their bytes. */
const columns = 8;
const columnsBytes: usize = 32;
const largestTile = 6;
const smallTile = 3;

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

/** scores [6][8] = six queries [6, headSize] · (8 positions of keys), times `scale`. */
@inline
function scoreSix(
  a: usize, bytes: usize, keys: usize, scale: v128, to: usize, stride: usize,
): void {
  const b = a + bytes, c = b + bytes, d = c + bytes, e = d + bytes, f = e + bytes;
  let a0 = f32x4.splat(0), a1 = a0;
  let b0 = a0, b1 = a0;
  let c0 = a0, c1 = a0;
  let d0 = a0, d1 = a0;
  let e0 = a0, e1 = a0;
  let f0 = a0, f1 = a0;
  for (let i: usize = 0; i < bytes; i += 4) {
    const k0 = v128.load(keys, 0), k1 = v128.load(keys, 16);
    let q = v128.load32_splat(a + i);
    a0 = multiplyAdd(q, k0, a0);
    a1 = multiplyAdd(q, k1, a1);
    q = v128.load32_splat(b + i);
    b0 = multiplyAdd(q, k0, b0);
    b1 = multiplyAdd(q, k1, b1);
    q = v128.load32_splat(c + i);
    c0 = multiplyAdd(q, k0, c0);
    c1 = multiplyAdd(q, k1, c1);
    q = v128.load32_splat(d + i);
    d0 = multiplyAdd(q, k0, d0);
    d1 = multiplyAdd(q, k1, d1);
    q = v128.load32_splat(e + i);
    e0 = multiplyAdd(q, k0, e0);
    e1 = multiplyAdd(q, k1, e1);
    q = v128.load32_splat(f + i);
    f0 = multiplyAdd(q, k0, f0);
    f1 = multiplyAdd(q, k1, f1);
    keys += pageRowBytes;
  }
  v128.store(to, f32x4.mul(a0, scale), 0);
  v128.store(to, f32x4.mul(a1, scale), 16);
  to += stride;
  v128.store(to, f32x4.mul(b0, scale), 0);
  v128.store(to, f32x4.mul(b1, scale), 16);
  to += stride;
  v128.store(to, f32x4.mul(c0, scale), 0);
  v128.store(to, f32x4.mul(c1, scale), 16);
  to += stride;
  v128.store(to, f32x4.mul(d0, scale), 0);
  v128.store(to, f32x4.mul(d1, scale), 16);
  to += stride;
  v128.store(to, f32x4.mul(e0, scale), 0);
  v128.store(to, f32x4.mul(e1, scale), 16);
  to += stride;
  v128.store(to, f32x4.mul(f0, scale), 0);
  v128.store(to, f32x4.mul(f1, scale), 16);
}

/** scores [3][8] = three queries [3, headSize] · (8 positions of keys), times `scale`. */
@inline
function scoreThree(
  a: usize, bytes: usize, keys: usize, scale: v128, to: usize, stride: usize,
): void {
  const b = a + bytes, c = b + bytes;
  let a0 = f32x4.splat(0), a1 = a0;
  let b0 = a0, b1 = a0;
  let c0 = a0, c1 = a0;
  for (let i: usize = 0; i < bytes; i += 4) {
    const k0 = v128.load(keys, 0), k1 = v128.load(keys, 16);
    let q = v128.load32_splat(a + i);
    a0 = multiplyAdd(q, k0, a0);
    a1 = multiplyAdd(q, k1, a1);
    q = v128.load32_splat(b + i);
    b0 = multiplyAdd(q, k0, b0);
    b1 = multiplyAdd(q, k1, b1);
    q = v128.load32_splat(c + i);
    c0 = multiplyAdd(q, k0, c0);
    c1 = multiplyAdd(q, k1, c1);
    keys += pageRowBytes;
  }
  v128.store(to, f32x4.mul(a0, scale), 0);
  v128.store(to, f32x4.mul(a1, scale), 16);
  to += stride;
  v128.store(to, f32x4.mul(b0, scale), 0);
  v128.store(to, f32x4.mul(b1, scale), 16);
  to += stride;
  v128.store(to, f32x4.mul(c0, scale), 0);
  v128.store(to, f32x4.mul(c1, scale), 16);
}

/**
 * Scores [length] become weights: 2^(score − largest), divided by their sum; zeros up to `padded`, a
 * multiple of 8.
 */
function weigh(scores: usize, length: i32, padded: i32): void {
  const end = scores + (<usize>length << 2);
  const paddedEnd = scores + (<usize>padded << 2);
  for (let at = end; at < paddedEnd; at += 4) store<f32>(at, -Infinity);
  let even = f32x4.splat(-Infinity), odd = even;
  for (let at = scores; at < paddedEnd; at += 32) {
    even = f32x4.pmax(even, v128.load(at, 0));
    odd = f32x4.pmax(odd, v128.load(at, 16));
  }
  even = f32x4.pmax(even, odd);
  even = f32x4.pmax(even, v128.shuffle<i32>(even, even, 2, 3, 0, 1));
  const largest = f32x4.pmax(even, v128.shuffle<i32>(even, even, 1, 0, 3, 2));
  const low = f32x4.splat(least), high = f32x4.splat(most), bias = i32x4.splat(exponentBias);
  const c6 = f32x4.splat(coefficient6), c5 = f32x4.splat(coefficient5);
  const c4 = f32x4.splat(coefficient4), c3 = f32x4.splat(coefficient3);
  const c2 = f32x4.splat(coefficient2), c1 = f32x4.splat(coefficient1), c0 = f32x4.splat(1);
  for (let at = scores; at < end; at += 32) {
    const x = f32x4.sub(v128.load(at, 0), largest), y = f32x4.sub(v128.load(at, 16), largest);
    v128.store(at, powerOfTwo(x, low, high, bias, c6, c5, c4, c3, c2, c1, c0), 0);
    v128.store(at, powerOfTwo(y, low, high, bias, c6, c5, c4, c3, c2, c1, c0), 16);
  }
  for (let at = end; at < paddedEnd; at += 4) store<f32>(at, 0);
  let sum = f32x4.splat(0);
  for (let at = scores; at < end; at += 16) sum = f32x4.add(sum, v128.load(at));
  const share = f32x4.splat(1 / sumOfLanes(sum));
  for (let at = scores; at < end; at += 16) v128.store(at, f32x4.mul(v128.load(at), share));
}

/** outputs [6][8] += weights [6][positions] · (8 columns of values [positions, headSize]). */
@inline
function mixSix(
  a: usize, stride: usize, positions: i32, values: usize, rowBytes: usize, toA: usize,
): void {
  const b = a + stride, c = b + stride, d = c + stride, e = d + stride, f = e + stride;
  const toB = toA + rowBytes, toC = toB + rowBytes, toD = toC + rowBytes, toE = toD + rowBytes, toF = toE + rowBytes;
  let a0 = v128.load(toA, 0), a1 = v128.load(toA, 16);
  let b0 = v128.load(toB, 0), b1 = v128.load(toB, 16);
  let c0 = v128.load(toC, 0), c1 = v128.load(toC, 16);
  let d0 = v128.load(toD, 0), d1 = v128.load(toD, 16);
  let e0 = v128.load(toE, 0), e1 = v128.load(toE, 16);
  let f0 = v128.load(toF, 0), f1 = v128.load(toF, 16);
  const end = <usize>positions << 2;
  for (let i: usize = 0; i < end; i += 4) {
    const v0 = v128.load(values, 0), v1 = v128.load(values, 16);
    let w = v128.load32_splat(a + i);
    a0 = multiplyAdd(w, v0, a0);
    a1 = multiplyAdd(w, v1, a1);
    w = v128.load32_splat(b + i);
    b0 = multiplyAdd(w, v0, b0);
    b1 = multiplyAdd(w, v1, b1);
    w = v128.load32_splat(c + i);
    c0 = multiplyAdd(w, v0, c0);
    c1 = multiplyAdd(w, v1, c1);
    w = v128.load32_splat(d + i);
    d0 = multiplyAdd(w, v0, d0);
    d1 = multiplyAdd(w, v1, d1);
    w = v128.load32_splat(e + i);
    e0 = multiplyAdd(w, v0, e0);
    e1 = multiplyAdd(w, v1, e1);
    w = v128.load32_splat(f + i);
    f0 = multiplyAdd(w, v0, f0);
    f1 = multiplyAdd(w, v1, f1);
    values += rowBytes;
  }
  v128.store(toA, a0, 0);
  v128.store(toA, a1, 16);
  v128.store(toB, b0, 0);
  v128.store(toB, b1, 16);
  v128.store(toC, c0, 0);
  v128.store(toC, c1, 16);
  v128.store(toD, d0, 0);
  v128.store(toD, d1, 16);
  v128.store(toE, e0, 0);
  v128.store(toE, e1, 16);
  v128.store(toF, f0, 0);
  v128.store(toF, f1, 16);
}

/** outputs [3][8] += weights [3][positions] · (8 columns of values [positions, headSize]). */
@inline
function mixThree(
  a: usize, stride: usize, positions: i32, values: usize, rowBytes: usize, toA: usize,
): void {
  const b = a + stride, c = b + stride;
  const toB = toA + rowBytes, toC = toB + rowBytes;
  let a0 = v128.load(toA, 0), a1 = v128.load(toA, 16);
  let b0 = v128.load(toB, 0), b1 = v128.load(toB, 16);
  let c0 = v128.load(toC, 0), c1 = v128.load(toC, 16);
  const end = <usize>positions << 2;
  for (let i: usize = 0; i < end; i += 4) {
    const v0 = v128.load(values, 0), v1 = v128.load(values, 16);
    let w = v128.load32_splat(a + i);
    a0 = multiplyAdd(w, v0, a0);
    a1 = multiplyAdd(w, v1, a1);
    w = v128.load32_splat(b + i);
    b0 = multiplyAdd(w, v0, b0);
    b1 = multiplyAdd(w, v1, b1);
    w = v128.load32_splat(c + i);
    c0 = multiplyAdd(w, v0, c0);
    c1 = multiplyAdd(w, v1, c1);
    values += rowBytes;
  }
  v128.store(toA, a0, 0);
  v128.store(toA, a1, 16);
  v128.store(toB, b0, 0);
  v128.store(toB, b1, 16);
  v128.store(toC, c0, 0);
  v128.store(toC, c1, 16);
}

/** The address of the page that holds a position. */
@inline
function pageOf(pages: usize, position: i32): usize {
  return <usize>load<u32>(pages + (<usize>(position / pagePositions) << 2));
}

/** scores [tile][…] of all positions below `length`, and of some behind, up to 8. */
function scoreTile(
  tile: i32, queries: usize, bytes: usize, length: i32, scale: f32, pages: usize,
  keysOffset: usize, scores: usize, stride: usize,
): void {
  // e^x is 2^(x·log₂ e), and 2^x is what is computed.
  const factor = f32x4.splat(scale * log2e);
  for (let at = 0; at < length; at += columns) {
    const keys = pageOf(pages, at) + keysOffset + (<usize>(at & (pagePositions - 1)) << 2);
    if (tile == largestTile) scoreSix(queries, bytes, keys, factor, scores, stride);
    else scoreThree(queries, bytes, keys, factor, scores, stride);
    scores += columnsBytes;
  }
}

/** outputs [tile][headSize] += the values of all positions, by their weights. */
function mixTile(
  tile: i32, weights: usize, stride: usize, length: i32, pages: usize, valuesOffset: usize,
  bytes: usize, outputs: usize,
): void {
  for (let at = 0; at < length; at += pagePositions) {
    const values = pageOf(pages, at) + valuesOffset;
    const positions = min(pagePositions, length - at);
    for (let column: usize = 0; column < bytes; column += columnsBytes) {
      if (tile == largestTile) {
        mixSix(weights, stride, positions, values + column, bytes, outputs + column);
      } else {
        mixThree(weights, stride, positions, values + column, bytes, outputs + column);
      }
    }
    weights += pageRowBytes;
  }
}

/**
 * All rows of a chunk, for the query heads that share one head of keys and values. A row of
 * `queries` begins `queryStride` bytes after the one before, a row of `to` `toStride` bytes; heads
 * lie behind each other. The first row is at position `start` and sees 0 … start.
 *
 * `pages` holds the addresses of the sequence's pages, i32 each; in a page, this head's keys and values
 * begin at the given offsets. `scratch` has room for a tile: 6 · (2·headSize + positions + 8) floats.
 */
export function attend(
  queries: usize, queryStride: usize, to: usize, toStride: usize, rows: i32, start: i32, heads: i32,
  headSize: i32, scale: f32, pages: usize, keysOffset: usize, valuesOffset: usize, scratch: usize,
): void {
  const bytes = <usize>headSize << 2;
  const count = rows * heads;
  const tileQueries = scratch, tileOutputs = tileQueries + largestTile * bytes;
  const scores = tileOutputs + largestTile * bytes;
  for (let first = 0; first < count;) {
    const left = count - first;
    const tile = left > smallTile ? largestTile : smallTile;
    // A tile that is not full computes its last query again.
    for (let i = 0; i < tile; i++) {
      const query = min(first + i, count - 1);
      const from = queries + <usize>(query / heads) * queryStride + <usize>(query % heads) * bytes;
      memory.copy(tileQueries + <usize>i * bytes, from, bytes);
    }
    const length = start + (min(first + tile, count) - 1) / heads + 1;
    const stride = <usize>((length + columns - 1) & -columns) << 2;
    scoreTile(tile, tileQueries, bytes, length, scale, pages, keysOffset, scores, stride);
    memory.fill(tileOutputs, 0, <usize>tile * bytes);
    for (let i = 0; i < tile; i++) {
      const query = min(first + i, count - 1);
      weigh(scores + <usize>i * stride, start + query / heads + 1, <i32>(stride >> 2));
    }
    mixTile(tile, scores, stride, length, pages, valuesOffset, bytes, tileOutputs);
    for (let i = 0; i < tile && i < left; i++) {
      const query = first + i;
      const target = to + <usize>(query / heads) * toStride + <usize>(query % heads) * bytes;
      memory.copy(target, tileOutputs + <usize>i * bytes, bytes);
    }
    first += tile;
  }
}
