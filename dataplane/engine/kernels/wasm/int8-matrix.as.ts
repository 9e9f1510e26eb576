/**
 * Matrices of int8 weights. A matrix is cut into panels of 16 outputs, a panel into groups of 32
 * inputs, and a group is one block of 544 bytes:
 *
 *   16 × bf16           the scales, one an output
 *   8 × [16 × 4] int8   four inputs of each output at a time
 *
 * One load takes four inputs of four outputs, and a dot instruction adds their products to four
 * sums: no sum is ever spread over lanes. Weights are stored with an offset (128 where the
 * instruction takes its second operand for unsigned, else 0); its share of a sum, −offset·Σx, is
 * what the sums of a group begin with.
 */

import { dotAdd, multiplyAdd, truncate } from "./machine.as";

const panelOutputs = 16;
const groupInputs: usize = 32;
const scaleBytes: usize = 32;
const blockBytes: usize = 544;

/** Outputs 0 … 3 of eight bf16 scales, as f32: a bf16 is the upper half of an f32. */
@inline
function firstScales(scales: v128): v128 {
  return v128.shuffle<i16>(i32x4.splat(0), scales, 0, 8, 1, 9, 2, 10, 3, 11);
}

/** Outputs 4 … 7. */
@inline
function lastScales(scales: v128): v128 {
  return v128.shuffle<i16>(i32x4.splat(0), scales, 4, 12, 5, 13, 6, 14, 7, 15);
}

/** sum + products·weightScales·inputScale */
@inline
function addScaled(sum: v128, products: v128, weightScales: v128, inputScale: v128): v128 {
  return multiplyAdd(f32x4.convert_i32x4_s(products), f32x4.mul(weightScales, inputScale), sum);
}

/** Stores 16 results. */
@inline
function storeSixteen(to: usize, y0: v128, y1: v128, y2: v128, y3: v128): void {
  v128.store(to, y0, 0);
  v128.store(to, y1, 16);
  v128.store(to, y2, 32);
  v128.store(to, y3, 48);
}

/**
 * One row: y [outputs] f32 = weights [outputs, 32·groups] · x, for outputs in whole panels.
 * x int8 [32·groups] comes with `scales` f32 [groups] and `starts` i32 [groups].
 *
 * One row is as fast as weights come from memory, and they come a fifth faster in two streams: it
 * works on a panel of the first half and one of the second half in turns. Of an odd number of panels
 * the middle one is in both halves.
 */
export function multiplyRow(
  weights: usize, outputs: i32, groups: i32, x: usize, scales: usize, starts: usize, y: usize,
): void {
  const panelBytes = <usize>groups * blockBytes;
  const panels = outputs / panelOutputs;
  const half = (panels + 1) >> 1;
  const otherHalf = <usize>(panels - half);
  let a = weights, b = weights + otherHalf * panelBytes;
  let ya = y, yb = y + otherHalf * 64;
  for (let panel = 0; panel < half; panel++) {
    let a0 = f32x4.splat(0), a1 = a0, a2 = a0, a3 = a0;
    let b0 = a0, b1 = a0, b2 = a0, b3 = a0;
    let inputs = x;
    for (let group = 0; group < groups; group++) {
      const at = <usize>group << 2;
      const start = v128.load32_splat(starts + at);
      const inputScale = v128.load32_splat(scales + at);
      let p0 = start, p1 = start, p2 = start, p3 = start;
      for (let i: usize = 0; i < groupInputs; i += 4) {
        const four = v128.load32_splat(inputs + i);
        const w = a + (i << 4);
        p0 = dotAdd(four, v128.load(w, 32), p0);
        p1 = dotAdd(four, v128.load(w, 48), p1);
        p2 = dotAdd(four, v128.load(w, 64), p2);
        p3 = dotAdd(four, v128.load(w, 80), p3);
      }
      let scales0 = v128.load(a, 0), scales1 = v128.load(a, 16);
      a0 = addScaled(a0, p0, firstScales(scales0), inputScale);
      a1 = addScaled(a1, p1, lastScales(scales0), inputScale);
      a2 = addScaled(a2, p2, firstScales(scales1), inputScale);
      a3 = addScaled(a3, p3, lastScales(scales1), inputScale);
      p0 = start;
      p1 = start;
      p2 = start;
      p3 = start;
      for (let i: usize = 0; i < groupInputs; i += 4) {
        const four = v128.load32_splat(inputs + i);
        const w = b + (i << 4);
        p0 = dotAdd(four, v128.load(w, 32), p0);
        p1 = dotAdd(four, v128.load(w, 48), p1);
        p2 = dotAdd(four, v128.load(w, 64), p2);
        p3 = dotAdd(four, v128.load(w, 80), p3);
      }
      scales0 = v128.load(b, 0);
      scales1 = v128.load(b, 16);
      b0 = addScaled(b0, p0, firstScales(scales0), inputScale);
      b1 = addScaled(b1, p1, lastScales(scales0), inputScale);
      b2 = addScaled(b2, p2, firstScales(scales1), inputScale);
      b3 = addScaled(b3, p3, lastScales(scales1), inputScale);
      a += blockBytes;
      b += blockBytes;
      inputs += groupInputs;
    }
    storeSixteen(ya, a0, a1, a2, a3);
    storeSixteen(yb, b0, b1, b2, b3);
    ya += 64;
    yb += 64;
  }
}

/** y[0 … 16) += the products of a group, for one row. */
@inline
function addToRow(
  y: usize, p0: v128, p1: v128, p2: v128, p3: v128, s0: v128, s1: v128, s2: v128, s3: v128,
  inputScale: v128,
): void {
  v128.store(y, addScaled(v128.load(y, 0), p0, s0, inputScale), 0);
  v128.store(y, addScaled(v128.load(y, 16), p1, s1, inputScale), 16);
  v128.store(y, addScaled(v128.load(y, 32), p2, s2, inputScale), 32);
  v128.store(y, addScaled(v128.load(y, 48), p3, s3, inputScale), 48);
}

/**
 * Three rows at a time, so that a weight is loaded once for all of them: 12 sums, 3 inputs and a
 * weight are all that 16 vector registers hold. For each row the same operations in the same order
 * as in `multiplyRow`, hence the same bits. Strides are in bytes, from row to row.
 *
 * It is unrolled, and written in the order in which it is to run: that is worth a third of its speed.
 */
export function multiplyThreeRows(
  weights: usize, outputs: i32, groups: i32, x: usize, xStride: usize,
  scales: usize, starts: usize, groupStride: usize, y: usize, yStride: usize,
): void {
  let block = weights;
  for (let output = 0; output < outputs; output += panelOutputs) {
    const ya = y + (<usize>output << 2), yb = ya + yStride, yc = yb + yStride;
    memory.fill(ya, 0, 64);
    memory.fill(yb, 0, 64);
    memory.fill(yc, 0, 64);
    let xa = x, xb = x + xStride, xc = xb + xStride;
    for (let group = 0; group < groups; group++) {
      const start = starts + (<usize>group << 2);
      let a0 = v128.load32_splat(start), a1 = a0, a2 = a0, a3 = a0;
      let b0 = v128.load32_splat(start + groupStride), b1 = b0, b2 = b0, b3 = b0;
      let c0 = v128.load32_splat(start + 2 * groupStride), c1 = c0, c2 = c0, c3 = c0;
      let ia = v128.load32_splat(xa, 0), ib = v128.load32_splat(xb, 0), ic = v128.load32_splat(xc, 0);
      let w = v128.load(block, 32); a0 = dotAdd(ia, w, a0); b0 = dotAdd(ib, w, b0); c0 = dotAdd(ic, w, c0);
      w = v128.load(block, 48); a1 = dotAdd(ia, w, a1); b1 = dotAdd(ib, w, b1); c1 = dotAdd(ic, w, c1);
      w = v128.load(block, 64); a2 = dotAdd(ia, w, a2); b2 = dotAdd(ib, w, b2); c2 = dotAdd(ic, w, c2);
      w = v128.load(block, 80); a3 = dotAdd(ia, w, a3); b3 = dotAdd(ib, w, b3); c3 = dotAdd(ic, w, c3);
      ia = v128.load32_splat(xa, 4); ib = v128.load32_splat(xb, 4); ic = v128.load32_splat(xc, 4);
      w = v128.load(block, 96); a0 = dotAdd(ia, w, a0); b0 = dotAdd(ib, w, b0); c0 = dotAdd(ic, w, c0);
      w = v128.load(block, 112); a1 = dotAdd(ia, w, a1); b1 = dotAdd(ib, w, b1); c1 = dotAdd(ic, w, c1);
      w = v128.load(block, 128); a2 = dotAdd(ia, w, a2); b2 = dotAdd(ib, w, b2); c2 = dotAdd(ic, w, c2);
      w = v128.load(block, 144); a3 = dotAdd(ia, w, a3); b3 = dotAdd(ib, w, b3); c3 = dotAdd(ic, w, c3);
      ia = v128.load32_splat(xa, 8); ib = v128.load32_splat(xb, 8); ic = v128.load32_splat(xc, 8);
      w = v128.load(block, 160); a0 = dotAdd(ia, w, a0); b0 = dotAdd(ib, w, b0); c0 = dotAdd(ic, w, c0);
      w = v128.load(block, 176); a1 = dotAdd(ia, w, a1); b1 = dotAdd(ib, w, b1); c1 = dotAdd(ic, w, c1);
      w = v128.load(block, 192); a2 = dotAdd(ia, w, a2); b2 = dotAdd(ib, w, b2); c2 = dotAdd(ic, w, c2);
      w = v128.load(block, 208); a3 = dotAdd(ia, w, a3); b3 = dotAdd(ib, w, b3); c3 = dotAdd(ic, w, c3);
      ia = v128.load32_splat(xa, 12); ib = v128.load32_splat(xb, 12); ic = v128.load32_splat(xc, 12);
      w = v128.load(block, 224); a0 = dotAdd(ia, w, a0); b0 = dotAdd(ib, w, b0); c0 = dotAdd(ic, w, c0);
      w = v128.load(block, 240); a1 = dotAdd(ia, w, a1); b1 = dotAdd(ib, w, b1); c1 = dotAdd(ic, w, c1);
      w = v128.load(block, 256); a2 = dotAdd(ia, w, a2); b2 = dotAdd(ib, w, b2); c2 = dotAdd(ic, w, c2);
      w = v128.load(block, 272); a3 = dotAdd(ia, w, a3); b3 = dotAdd(ib, w, b3); c3 = dotAdd(ic, w, c3);
      ia = v128.load32_splat(xa, 16); ib = v128.load32_splat(xb, 16); ic = v128.load32_splat(xc, 16);
      w = v128.load(block, 288); a0 = dotAdd(ia, w, a0); b0 = dotAdd(ib, w, b0); c0 = dotAdd(ic, w, c0);
      w = v128.load(block, 304); a1 = dotAdd(ia, w, a1); b1 = dotAdd(ib, w, b1); c1 = dotAdd(ic, w, c1);
      w = v128.load(block, 320); a2 = dotAdd(ia, w, a2); b2 = dotAdd(ib, w, b2); c2 = dotAdd(ic, w, c2);
      w = v128.load(block, 336); a3 = dotAdd(ia, w, a3); b3 = dotAdd(ib, w, b3); c3 = dotAdd(ic, w, c3);
      ia = v128.load32_splat(xa, 20); ib = v128.load32_splat(xb, 20); ic = v128.load32_splat(xc, 20);
      w = v128.load(block, 352); a0 = dotAdd(ia, w, a0); b0 = dotAdd(ib, w, b0); c0 = dotAdd(ic, w, c0);
      w = v128.load(block, 368); a1 = dotAdd(ia, w, a1); b1 = dotAdd(ib, w, b1); c1 = dotAdd(ic, w, c1);
      w = v128.load(block, 384); a2 = dotAdd(ia, w, a2); b2 = dotAdd(ib, w, b2); c2 = dotAdd(ic, w, c2);
      w = v128.load(block, 400); a3 = dotAdd(ia, w, a3); b3 = dotAdd(ib, w, b3); c3 = dotAdd(ic, w, c3);
      ia = v128.load32_splat(xa, 24); ib = v128.load32_splat(xb, 24); ic = v128.load32_splat(xc, 24);
      w = v128.load(block, 416); a0 = dotAdd(ia, w, a0); b0 = dotAdd(ib, w, b0); c0 = dotAdd(ic, w, c0);
      w = v128.load(block, 432); a1 = dotAdd(ia, w, a1); b1 = dotAdd(ib, w, b1); c1 = dotAdd(ic, w, c1);
      w = v128.load(block, 448); a2 = dotAdd(ia, w, a2); b2 = dotAdd(ib, w, b2); c2 = dotAdd(ic, w, c2);
      w = v128.load(block, 464); a3 = dotAdd(ia, w, a3); b3 = dotAdd(ib, w, b3); c3 = dotAdd(ic, w, c3);
      ia = v128.load32_splat(xa, 28); ib = v128.load32_splat(xb, 28); ic = v128.load32_splat(xc, 28);
      w = v128.load(block, 480); a0 = dotAdd(ia, w, a0); b0 = dotAdd(ib, w, b0); c0 = dotAdd(ic, w, c0);
      w = v128.load(block, 496); a1 = dotAdd(ia, w, a1); b1 = dotAdd(ib, w, b1); c1 = dotAdd(ic, w, c1);
      w = v128.load(block, 512); a2 = dotAdd(ia, w, a2); b2 = dotAdd(ib, w, b2); c2 = dotAdd(ic, w, c2);
      w = v128.load(block, 528); a3 = dotAdd(ia, w, a3); b3 = dotAdd(ib, w, b3); c3 = dotAdd(ic, w, c3);
      const scales0 = v128.load(block, 0), scales1 = v128.load(block, 16);
      const s0 = firstScales(scales0), s1 = lastScales(scales0);
      const s2 = firstScales(scales1), s3 = lastScales(scales1);
      const scale = scales + (<usize>group << 2);
      addToRow(ya, a0, a1, a2, a3, s0, s1, s2, s3, v128.load32_splat(scale));
      addToRow(yb, b0, b1, b2, b3, s0, s1, s2, s3, v128.load32_splat(scale + groupStride));
      addToRow(yc, c0, c1, c2, c3, s0, s1, s2, s3, v128.load32_splat(scale + 2 * groupStride));
      block += blockBytes;
      xa += groupInputs;
      xb += groupInputs;
      xc += groupInputs;
    }
  }
}

/** The larger of each lane's magnitude so far and that of four more floats. */
@inline
function larger(magnitudes: v128, x: usize): v128 {
  return f32x4.pmax(magnitudes, f32x4.abs(v128.load(x)));
}

/** The largest magnitude of a group, 32 floats. */
@inline
function largestMagnitude(x: usize): f32 {
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
function roundedEight(x: usize, factor: v128): v128 {
  return i16x8.narrow_i32x4_s(rounded(x, factor), rounded(x + 16, factor));
}

/**
 * Quantizes x f32 [rows, 32·groups] to int8, each group by its largest magnitude: q = round(x/scale),
 * scale = largest/127. `starts` gets −offset·Σq of each group.
 */
export function quantizeRows(
  x: usize, rows: i32, groups: i32, offset: i32, q: usize, scales: usize, starts: usize,
): void {
  const weights = i16x8.splat(<i16>-offset);
  for (let group = rows * groups; group > 0; group--) {
    const largest = largestMagnitude(x);
    const factor = f32x4.splat(largest > 0 ? 127 / largest : 0);
    const a = roundedEight(x, factor), b = roundedEight(x + 32, factor);
    const c = roundedEight(x + 64, factor), d = roundedEight(x + 96, factor);
    v128.store(q, i8x16.narrow_i16x8_s(a, b), 0);
    v128.store(q, i8x16.narrow_i16x8_s(c, d), 16);
    // Four numbers of at most 127 each fit into 16 bits.
    let start = i32x4.dot_i16x8_s(i16x8.add(i16x8.add(a, b), i16x8.add(c, d)), weights);
    start = i32x4.add(start, v128.shuffle<i32>(start, start, 2, 3, 0, 1));
    start = i32x4.add(start, v128.shuffle<i32>(start, start, 1, 0, 3, 2));
    store<f32>(scales, largest / 127);
    store<i32>(starts, i32x4.extract_lane(start, 0));
    x += groupInputs << 2;
    q += groupInputs;
    scales += 4;
    starts += 4;
  }
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
