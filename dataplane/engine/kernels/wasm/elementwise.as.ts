/** What is done to rows of activations between matrices. All counts are multiples of 4. */

import { multiplyAdd, truncate } from "./machine.as";

const log2e: f32 = 1.4426950408889634;
/** ln 2 in two parts: the first has so few bits that its multiples are exact. */
const ln2Upper: f32 = 0.693359375;
const ln2Lower: f32 = -2.1219444005469057e-4;

/**
 * eˣ = 2ⁿ·eʳ with n = round(x / ln 2), |r| ≤ ln 2 / 2, and eʳ by its Taylor series up to r⁶/6!,
 * which is wrong by less than 1.3e-7 of it. Below −87 it stays at e⁻⁸⁷.
 */
@inline
export function exponential(x: v128): v128 {
  const clamped = f32x4.pmin(f32x4.pmax(x, f32x4.splat(-87)), f32x4.splat(88));
  const n = f32x4.nearest(f32x4.mul(clamped, f32x4.splat(log2e)));
  const upper = f32x4.sub(clamped, f32x4.mul(n, f32x4.splat(ln2Upper)));
  const r = f32x4.sub(upper, f32x4.mul(n, f32x4.splat(ln2Lower)));
  let sum = f32x4.splat(<f32>(1.0 / 720.0));
  sum = multiplyAdd(sum, r, f32x4.splat(<f32>(1.0 / 120.0)));
  sum = multiplyAdd(sum, r, f32x4.splat(<f32>(1.0 / 24.0)));
  sum = multiplyAdd(sum, r, f32x4.splat(<f32>(1.0 / 6.0)));
  sum = multiplyAdd(sum, r, f32x4.splat(0.5));
  sum = multiplyAdd(sum, r, f32x4.splat(1));
  sum = multiplyAdd(sum, r, f32x4.splat(1));
  const exponent = i32x4.add(truncate(n), i32x4.splat(127));
  return f32x4.mul(sum, i32x4.shl(exponent, 23));
}

/** The four lanes added, always in the same order. */
@inline
export function sumOfLanes(x: v128): f32 {
  return f32x4.extract_lane(x, 0) + f32x4.extract_lane(x, 1)
    + (f32x4.extract_lane(x, 2) + f32x4.extract_lane(x, 3));
}

/** y [rows, width] = x / rms(x) · weight [width], row by row. */
export function rmsNorm(
  x: usize, rows: i32, width: i32, weight: usize, epsilon: f32, y: usize,
): void {
  const rowBytes = <usize>width << 2;
  for (let row = 0; row < rows; row++) {
    let squares = f32x4.splat(0);
    for (let i: usize = 0; i < rowBytes; i += 16) {
      const value = v128.load(x + i);
      squares = multiplyAdd(value, value, squares);
    }
    const scale = f32x4.splat(1 / sqrt<f32>(sumOfLanes(squares) / <f32>width + epsilon));
    for (let i: usize = 0; i < rowBytes; i += 16) {
      v128.store(y + i, f32x4.mul(f32x4.mul(v128.load(x + i), scale), v128.load(weight + i)));
    }
    x += rowBytes;
    y += rowBytes;
  }
}

/** sum += values, elementwise. */
export function add(sum: usize, values: usize, count: i32): void {
  for (let end = sum + (<usize>count << 2); sum < end; sum += 16) {
    v128.store(sum, f32x4.add(v128.load(sum), v128.load(values)));
    values += 16;
  }
}

/** y [rows, columns] = silu(gate)·up, where a row of gateUp is gate [columns], then up [columns]. */
export function swiglu(gateUp: usize, rows: i32, columns: i32, y: usize): void {
  const bytes = <usize>columns << 2;
  const one = f32x4.splat(1);
  for (let row = 0; row < rows; row++) {
    for (let i: usize = 0; i < bytes; i += 16) {
      const gate = v128.load(gateUp + i);
      const up = v128.load(gateUp + bytes + i);
      const silu = f32x4.div(gate, f32x4.add(one, exponential(f32x4.neg(gate))));
      v128.store(y + i, f32x4.mul(silu, up));
    }
    gateUp += 2 * bytes;
    y += bytes;
  }
}

/**
 * Turns, in place, the first `heads` heads of each row of x by the row's angles: cosines and sines
 * [rows, half]. A head is 2·half wide, a row `stride` bytes.
 */
export function rotate(
  x: usize, rows: i32, heads: i32, half: i32, stride: usize, cosines: usize, sines: usize,
): void {
  const bytes = <usize>half << 2;
  for (let row = 0; row < rows; row++) {
    let head = x;
    for (let h = 0; h < heads; h++) {
      for (let i: usize = 0; i < bytes; i += 4) {
        const cosine = load<f32>(cosines + i);
        const sine = load<f32>(sines + i);
        const first = load<f32>(head + i);
        const second = load<f32>(head + bytes + i);
        store<f32>(head + i, first * cosine - second * sine);
        store<f32>(head + bytes + i, second * cosine + first * sine);
      }
      head += 2 * bytes;
    }
    x += stride;
    cosines += bytes;
    sines += bytes;
  }
}

/** The largest of `count` values; NaN if any is NaN. */
export function largest(x: usize, count: i32): f32 {
  let most = f32x4.splat(-Infinity);
  for (let end = x + (<usize>count << 2); x < end; x += 16) most = f32x4.max(most, v128.load(x));
  return max(
    max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)),
    max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)),
  );
}

/** Σ exp((x − most)·inverseTemperature) over `count` values. */
export function mass(x: usize, count: i32, most: f32, inverseTemperature: f32): f32 {
  const center = f32x4.splat(most);
  const factor = f32x4.splat(inverseTemperature);
  let sum = f32x4.splat(0);
  for (let end = x + (<usize>count << 2); x < end; x += 16) {
    sum = f32x4.add(sum, exponential(f32x4.mul(f32x4.sub(v128.load(x), center), factor)));
  }
  return sumOfLanes(sum);
}
