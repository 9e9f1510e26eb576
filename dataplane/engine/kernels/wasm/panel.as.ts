/**
 * Matrices of int8 weights. A matrix is cut into panels of 16 outputs, a panel into groups of 32
 * inputs, and a group is one block of 544 bytes:
 *
 *   16 × bf16           the scales, one an output
 *   8 × [16 × 4] int8   four inputs of each output at a time
 *
 * One load takes four inputs of four outputs, and a dot product adds to four sums: no sum is ever
 * spread over lanes. Weights are stored with an offset: 128 where the machine's dot instruction takes
 * them for unsigned, else 0.
 */

import { multiplyAdd, truncate } from "./machine.as";

export const panelOutputs = 16;
export const groupInputs: usize = 32;
export const scaleBytes: usize = 32;
export const blockBytes: usize = 544;

/** Outputs 0 … 3 of eight bf16 scales, as f32: a bf16 is the upper half of an f32. */
@inline
export function firstScales(scales: v128): v128 {
  return v128.shuffle<i16>(i32x4.splat(0), scales, 0, 8, 1, 9, 2, 10, 3, 11);
}

/** Outputs 4 … 7. */
@inline
export function lastScales(scales: v128): v128 {
  return v128.shuffle<i16>(i32x4.splat(0), scales, 4, 12, 5, 13, 6, 14, 7, 15);
}

/** sum + products·weightScales·inputScale */
@inline
export function addScaled(sum: v128, products: v128, weightScales: v128, inputScale: v128): v128 {
  return multiplyAdd(f32x4.convert_i32x4_s(products), f32x4.mul(weightScales, inputScale), sum);
}

/** Stores 16 results. */
@inline
export function storeSixteen(to: usize, y0: v128, y1: v128, y2: v128, y3: v128): void {
  v128.store(to, y0, 0);
  v128.store(to, y1, 16);
  v128.store(to, y2, 32);
  v128.store(to, y3, 48);
}

/** y[0 … 8) += the products of a group, for one row. */
@inline
export function addEight(y: usize, p0: v128, p1: v128, s0: v128, s1: v128, inputScale: v128): void {
  v128.store(y, addScaled(v128.load(y, 0), p0, s0, inputScale), 0);
  v128.store(y, addScaled(v128.load(y, 16), p1, s1, inputScale), 16);
}

/** The larger of each lane's magnitude so far and that of four more floats. */
@inline
function larger(magnitudes: v128, x: usize): v128 {
  return f32x4.pmax(magnitudes, f32x4.abs(v128.load(x)));
}

/** The largest magnitude of a group, 32 floats. */
@inline
export function largestMagnitude(x: usize): f32 {
  let even = larger(f32x4.splat(0), x), odd = larger(f32x4.splat(0), x + 16);
  even = larger(even, x + 32);
  odd = larger(odd, x + 48);
  even = larger(even, x + 64);
  odd = larger(odd, x + 80);
  even = f32x4.pmax(larger(even, x + 96), larger(odd, x + 112));
  even = f32x4.pmax(even, v128.shuffle<i32>(even, even, 2, 3, 0, 1));
  even = f32x4.pmax(even, v128.shuffle<i32>(even, even, 1, 0, 3, 2));
  return f32x4.extract_lane(even, 0);
}

/** Four floats times `factor`, rounded to integers of 32 bits. */
@inline
function rounded(x: usize, factor: v128): v128 {
  return truncate(f32x4.nearest(f32x4.mul(v128.load(x), factor)));
}

/** Eight floats times `factor`, rounded to integers of 16 bits. */
@inline
export function roundedEight(x: usize, factor: v128): v128 {
  return i16x8.narrow_i32x4_s(rounded(x, factor), rounded(x + 16, factor));
}

/**
 * Quantizes 16 outputs, f32 [16, 32·groups], into a panel. The scale is rounded to bf16 first, away
 * from zero so that no weight exceeds 127 of it, and the weights are rounded against what is stored.
 */
export function packPanel(source: usize, groups: i32, offset: i32, panel: usize): void {
  const flip = i8x16.splat(<i8>offset);
  for (let output = 0; output < panelOutputs; output++) {
    let block = panel;
    for (let group = 0; group < groups; group++) {
      const exact = largestMagnitude(source) / 127;
      const bits = (reinterpret<u32>(exact) + 0xffff) >> 16;
      const scale = reinterpret<f32>(bits << 16);
      store<u16>(block + (<usize>output << 1), <u16>bits);
      const factor = f32x4.splat(scale > 0 ? 1 / scale : 0);
      for (let i: usize = 0; i < groupInputs; i += 4) {
        const q = rounded(source + (i << 2), factor);
        const bytes = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(q, q), i32x4.splat(0));
        const to = block + scaleBytes + (i << 4) + (<usize>output << 2);
        store<i32>(to, i32x4.extract_lane(v128.xor(bytes, flip), 0));
      }
      source += groupInputs << 2;
      block += blockBytes;
    }
  }
}

/** One output's weights as f32 [32·groups]; `output` counts within the panel. */
export function unpackOutput(panel: usize, groups: i32, offset: i32, output: i32, to: usize): void {
  for (let group = 0; group < groups; group++) {
    const scale = reinterpret<f32>(<u32>load<u16>(panel + (<usize>output << 1)) << 16);
    for (let i: usize = 0; i < groupInputs; i++) {
      const at = panel + scaleBytes + ((i >> 2) << 6) + (<usize>output << 2) + (i & 3);
      store<f32>(to, <f32>(<i8>(load<u8>(at) ^ <u8>offset)) * scale);
      to += 4;
    }
    panel += blockBytes;
  }
}
