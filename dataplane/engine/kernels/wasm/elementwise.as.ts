/** What is done to rows of activations between matrices. All counts are multiples of 4. */

import { multiplyAdd, truncate } from "./machine.as";

export const log2e: f32 = 1.4426950408889634;

/**
 * 2ˣ = 2ⁿ·2ʳ with n = round(x), |r| ≤ ½, and 2ʳ by its Taylor series up to (r·ln 2)⁶/6!, which is
 * wrong by less than 1.3e-7 of it. Below −126 it stays at 2⁻¹²⁶, above 127 at 2¹²⁷. The coefficients
 * are arguments so that a loop has them in registers: they are not moved out of loops otherwise.
 */
@inline
export function powerOfTwo(
  x: v128, least: v128, most: v128, bias: v128,
  c6: v128, c5: v128, c4: v128, c3: v128, c2: v128, c1: v128, c0: v128,
): v128 {
  const clamped = f32x4.pmin(f32x4.pmax(x, least), most);
  const n = f32x4.nearest(clamped);
  const r = f32x4.sub(clamped, n);
  let sum = multiplyAdd(c6, r, c5);
  sum = multiplyAdd(sum, r, c4);
  sum = multiplyAdd(sum, r, c3);
  sum = multiplyAdd(sum, r, c2);
  sum = multiplyAdd(sum, r, c1);
  sum = multiplyAdd(sum, r, c0);
  return f32x4.mul(sum, i32x4.shl(i32x4.add(truncate(n), bias), 23));
}

export const least: f32 = -126;
export const most: f32 = 127;
export const exponentBias: i32 = 127;
/** (ln 2)ᵏ / k! */
export const coefficient1: f32 = 0.6931471805599453;
export const coefficient2: f32 = 0.24022650695910072;
export const coefficient3: f32 = 0.05550410866482158;
export const coefficient4: f32 = 0.009618129107628477;
export const coefficient5: f32 = 0.0013333558146428443;
export const coefficient6: f32 = 0.0001540353039338161;

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
  const low = f32x4.splat(least), high = f32x4.splat(most), bias = i32x4.splat(exponentBias);
  const c6 = f32x4.splat(coefficient6), c5 = f32x4.splat(coefficient5);
  const c4 = f32x4.splat(coefficient4), c3 = f32x4.splat(coefficient3);
  const c2 = f32x4.splat(coefficient2), c1 = f32x4.splat(coefficient1), c0 = f32x4.splat(1);
  const factor = f32x4.splat(-log2e);
  for (let row = 0; row < rows; row++) {
    for (let i: usize = 0; i < bytes; i += 16) {
      const gate = v128.load(gateUp + i);
      const up = v128.load(gateUp + bytes + i);
      const x = f32x4.mul(gate, factor);
      const power = powerOfTwo(x, low, high, bias, c6, c5, c4, c3, c2, c1, c0);
      v128.store(y + i, f32x4.mul(f32x4.div(gate, f32x4.add(c0, power)), up));
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

/** Σ exp((x − largest)·inverseTemperature) over `count` values. */
export function mass(x: usize, count: i32, largest: f32, inverseTemperature: f32): f32 {
  const center = f32x4.splat(largest), factor = f32x4.splat(inverseTemperature * log2e);
  const low = f32x4.splat(least), high = f32x4.splat(most), bias = i32x4.splat(exponentBias);
  const c6 = f32x4.splat(coefficient6), c5 = f32x4.splat(coefficient5);
  const c4 = f32x4.splat(coefficient4), c3 = f32x4.splat(coefficient3);
  const c2 = f32x4.splat(coefficient2), c1 = f32x4.splat(coefficient1), c0 = f32x4.splat(1);
  let sum = f32x4.splat(0);
  for (let end = x + (<usize>count << 2); x < end; x += 16) {
    const power = f32x4.mul(f32x4.sub(v128.load(x), center), factor);
    sum = f32x4.add(sum, powerOfTwo(power, low, high, bias, c6, c5, c4, c3, c2, c1, c0));
  }
  return sumOfLanes(sum);
}
