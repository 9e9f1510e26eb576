/**
 * Rows times int8 weights (panel.as.ts tells how these lie), for machines whose dot instruction adds
 * products in pairs, into 16 bits: x86 without AVX-VNNI. Its second operand must not exceed 127, or
 * what it gives is up to the machine; so rows are kept as magnitudes and signs, and the sign goes to
 * the weights: x·w = |x|·±w. A weight's sign is changed by flipping its bits, which is one instruction:
 * ~w = −w − 1. What is missing, |x| for each negative x whatever the weight, is what the sums of a
 * group begin with.
 *
 * A pair is at most 127·128 + 127·128 = 32512, so nothing is lost, and results have the bits that
 * int8-matrix.as.ts gives.
 */

import { pairsAdd } from "./machine.as";
import {
  addEight, addScaled, blockBytes, firstScales, groupInputs, largestMagnitude, lastScales, panelOutputs,
  roundedEight, storeSixteen,
} from "./panel.as";

/** Of a group of a row: 32 magnitudes, then 32 signs, −1 or 0. */
const groupBytes: usize = 64;

/**
 * One row: y [outputs] f32 = weights [outputs, 32·groups] · x, for outputs in whole panels.
 * x, [groups] of magnitudes and signs, comes with `scales` f32 [groups] and `starts` i32 [groups].
 *
 * Like that of int8-matrix.as.ts it reads weights in two streams, of the first half of the panels and
 * of the second.
 */
export function multiplyRow(
  weights: usize, outputs: i32, groups: i32, x: usize, scales: usize, starts: usize, y: usize,
): void {
  const panelBytes = <usize>groups * blockBytes;
  const panels = outputs / panelOutputs;
  const half = (panels + 1) >> 1;
  const otherHalf = <usize>(panels - half);
  const ones = i16x8.splat(1);
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
        const signs = v128.load32_splat(inputs + i, 32);
        const four = v128.load32_splat(inputs + i);
        const w = a + (i << 4);
        p0 = pairsAdd(v128.load(w, 32), signs, four, ones, p0);
        p1 = pairsAdd(v128.load(w, 48), signs, four, ones, p1);
        p2 = pairsAdd(v128.load(w, 64), signs, four, ones, p2);
        p3 = pairsAdd(v128.load(w, 80), signs, four, ones, p3);
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
        const signs = v128.load32_splat(inputs + i, 32);
        const four = v128.load32_splat(inputs + i);
        const w = b + (i << 4);
        p0 = pairsAdd(v128.load(w, 32), signs, four, ones, p0);
        p1 = pairsAdd(v128.load(w, 48), signs, four, ones, p1);
        p2 = pairsAdd(v128.load(w, 64), signs, four, ones, p2);
        p3 = pairsAdd(v128.load(w, 80), signs, four, ones, p3);
      }
      scales0 = v128.load(b, 0);
      scales1 = v128.load(b, 16);
      b0 = addScaled(b0, p0, firstScales(scales0), inputScale);
      b1 = addScaled(b1, p1, lastScales(scales0), inputScale);
      b2 = addScaled(b2, p2, firstScales(scales1), inputScale);
      b3 = addScaled(b3, p3, lastScales(scales1), inputScale);
      a += blockBytes;
      b += blockBytes;
      inputs += groupBytes;
    }
    storeSixteen(ya, a0, a1, a2, a3);
    storeSixteen(yb, b0, b1, b2, b3);
    ya += 64;
    yb += 64;
  }
}

/**
 * Four rows times eight outputs of a panel, the first or the last ones: eight sums, two vectors of
 * weights, signs and magnitudes of a row, ones and what is under way are all that the registers hold. For
 * each row the same operations in the same order as in `multiplyRow`, hence the same bits.
 *
 * It is unrolled, and written in the order in which it is to run.
 */
function multiplyFourByEight(
  panel: usize, half: usize, groups: usize, a: usize, scales: usize, starts: usize, ya: usize,
  yStride: usize,
): void {
  const ones = i16x8.splat(1);
  const xBytes = groups * groupBytes, rowGroups = groups << 2;
  let b = a + xBytes, c = b + xBytes, d = c + xBytes;
  const yb = ya + yStride, yc = yb + yStride, yd = yc + yStride;
  for (let row = 0, y = ya; row < 4; row++, y += yStride) memory.fill(y, 0, 32);
  // The weights of the last eight outputs are 32 bytes behind those of the first, their scales 16.
  let block = panel + half * 32;
  for (let at: usize = 0; at < rowGroups; at += 4) {
    let a0 = v128.load32_splat(starts + at), a1 = a0;
    let b0 = v128.load32_splat(starts + rowGroups + at), b1 = b0;
    let c0 = v128.load32_splat(starts + 2 * rowGroups + at), c1 = c0;
    let d0 = v128.load32_splat(starts + 3 * rowGroups + at), d1 = d0;
    let w0 = v128.load(block, 32), w1 = v128.load(block, 48);
    let s = v128.load32_splat(a, 32), x = v128.load32_splat(a, 0); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 32); x = v128.load32_splat(b, 0); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    s = v128.load32_splat(c, 32); x = v128.load32_splat(c, 0); c0 = pairsAdd(w0, s, x, ones, c0); c1 = pairsAdd(w1, s, x, ones, c1);
    s = v128.load32_splat(d, 32); x = v128.load32_splat(d, 0); d0 = pairsAdd(w0, s, x, ones, d0); d1 = pairsAdd(w1, s, x, ones, d1);
    w0 = v128.load(block, 96); w1 = v128.load(block, 112);
    s = v128.load32_splat(a, 36); x = v128.load32_splat(a, 4); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 36); x = v128.load32_splat(b, 4); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    s = v128.load32_splat(c, 36); x = v128.load32_splat(c, 4); c0 = pairsAdd(w0, s, x, ones, c0); c1 = pairsAdd(w1, s, x, ones, c1);
    s = v128.load32_splat(d, 36); x = v128.load32_splat(d, 4); d0 = pairsAdd(w0, s, x, ones, d0); d1 = pairsAdd(w1, s, x, ones, d1);
    w0 = v128.load(block, 160); w1 = v128.load(block, 176);
    s = v128.load32_splat(a, 40); x = v128.load32_splat(a, 8); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 40); x = v128.load32_splat(b, 8); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    s = v128.load32_splat(c, 40); x = v128.load32_splat(c, 8); c0 = pairsAdd(w0, s, x, ones, c0); c1 = pairsAdd(w1, s, x, ones, c1);
    s = v128.load32_splat(d, 40); x = v128.load32_splat(d, 8); d0 = pairsAdd(w0, s, x, ones, d0); d1 = pairsAdd(w1, s, x, ones, d1);
    w0 = v128.load(block, 224); w1 = v128.load(block, 240);
    s = v128.load32_splat(a, 44); x = v128.load32_splat(a, 12); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 44); x = v128.load32_splat(b, 12); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    s = v128.load32_splat(c, 44); x = v128.load32_splat(c, 12); c0 = pairsAdd(w0, s, x, ones, c0); c1 = pairsAdd(w1, s, x, ones, c1);
    s = v128.load32_splat(d, 44); x = v128.load32_splat(d, 12); d0 = pairsAdd(w0, s, x, ones, d0); d1 = pairsAdd(w1, s, x, ones, d1);
    w0 = v128.load(block, 288); w1 = v128.load(block, 304);
    s = v128.load32_splat(a, 48); x = v128.load32_splat(a, 16); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 48); x = v128.load32_splat(b, 16); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    s = v128.load32_splat(c, 48); x = v128.load32_splat(c, 16); c0 = pairsAdd(w0, s, x, ones, c0); c1 = pairsAdd(w1, s, x, ones, c1);
    s = v128.load32_splat(d, 48); x = v128.load32_splat(d, 16); d0 = pairsAdd(w0, s, x, ones, d0); d1 = pairsAdd(w1, s, x, ones, d1);
    w0 = v128.load(block, 352); w1 = v128.load(block, 368);
    s = v128.load32_splat(a, 52); x = v128.load32_splat(a, 20); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 52); x = v128.load32_splat(b, 20); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    s = v128.load32_splat(c, 52); x = v128.load32_splat(c, 20); c0 = pairsAdd(w0, s, x, ones, c0); c1 = pairsAdd(w1, s, x, ones, c1);
    s = v128.load32_splat(d, 52); x = v128.load32_splat(d, 20); d0 = pairsAdd(w0, s, x, ones, d0); d1 = pairsAdd(w1, s, x, ones, d1);
    w0 = v128.load(block, 416); w1 = v128.load(block, 432);
    s = v128.load32_splat(a, 56); x = v128.load32_splat(a, 24); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 56); x = v128.load32_splat(b, 24); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    s = v128.load32_splat(c, 56); x = v128.load32_splat(c, 24); c0 = pairsAdd(w0, s, x, ones, c0); c1 = pairsAdd(w1, s, x, ones, c1);
    s = v128.load32_splat(d, 56); x = v128.load32_splat(d, 24); d0 = pairsAdd(w0, s, x, ones, d0); d1 = pairsAdd(w1, s, x, ones, d1);
    w0 = v128.load(block, 480); w1 = v128.load(block, 496);
    s = v128.load32_splat(a, 60); x = v128.load32_splat(a, 28); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 60); x = v128.load32_splat(b, 28); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    s = v128.load32_splat(c, 60); x = v128.load32_splat(c, 28); c0 = pairsAdd(w0, s, x, ones, c0); c1 = pairsAdd(w1, s, x, ones, c1);
    s = v128.load32_splat(d, 60); x = v128.load32_splat(d, 28); d0 = pairsAdd(w0, s, x, ones, d0); d1 = pairsAdd(w1, s, x, ones, d1);
    const eightScales = v128.load(block - half * 16);
    const s0 = firstScales(eightScales), s1 = lastScales(eightScales);
    const scale = scales + at;
    addEight(ya, a0, a1, s0, s1, v128.load32_splat(scale));
    addEight(yb, b0, b1, s0, s1, v128.load32_splat(scale + rowGroups));
    addEight(yc, c0, c1, s0, s1, v128.load32_splat(scale + 2 * rowGroups));
    addEight(yd, d0, d1, s0, s1, v128.load32_splat(scale + 3 * rowGroups));
    block += blockBytes;
    a += groupBytes;
    b += groupBytes;
    c += groupBytes;
    d += groupBytes;
  }
}

/**
 * Two rows times eight outputs: for what fours leave over. The second row's distances from the first are
 * 0 when there is none.
 */
function multiplyTwoByEight(
  panel: usize, half: usize, groups: usize, a: usize, toB: usize, scales: usize, starts: usize,
  toGroups: usize, ya: usize, yb: usize,
): void {
  const ones = i16x8.splat(1);
  const rowGroups = groups << 2;
  let b = a + toB;
  memory.fill(ya, 0, 32);
  memory.fill(yb, 0, 32);
  let block = panel + half * 32;
  for (let at: usize = 0; at < rowGroups; at += 4) {
    let a0 = v128.load32_splat(starts + at), a1 = a0;
    let b0 = v128.load32_splat(starts + toGroups + at), b1 = b0;
    let w0 = v128.load(block, 32), w1 = v128.load(block, 48);
    let s = v128.load32_splat(a, 32), x = v128.load32_splat(a, 0); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 32); x = v128.load32_splat(b, 0); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    w0 = v128.load(block, 96); w1 = v128.load(block, 112);
    s = v128.load32_splat(a, 36); x = v128.load32_splat(a, 4); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 36); x = v128.load32_splat(b, 4); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    w0 = v128.load(block, 160); w1 = v128.load(block, 176);
    s = v128.load32_splat(a, 40); x = v128.load32_splat(a, 8); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 40); x = v128.load32_splat(b, 8); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    w0 = v128.load(block, 224); w1 = v128.load(block, 240);
    s = v128.load32_splat(a, 44); x = v128.load32_splat(a, 12); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 44); x = v128.load32_splat(b, 12); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    w0 = v128.load(block, 288); w1 = v128.load(block, 304);
    s = v128.load32_splat(a, 48); x = v128.load32_splat(a, 16); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 48); x = v128.load32_splat(b, 16); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    w0 = v128.load(block, 352); w1 = v128.load(block, 368);
    s = v128.load32_splat(a, 52); x = v128.load32_splat(a, 20); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 52); x = v128.load32_splat(b, 20); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    w0 = v128.load(block, 416); w1 = v128.load(block, 432);
    s = v128.load32_splat(a, 56); x = v128.load32_splat(a, 24); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 56); x = v128.load32_splat(b, 24); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    w0 = v128.load(block, 480); w1 = v128.load(block, 496);
    s = v128.load32_splat(a, 60); x = v128.load32_splat(a, 28); a0 = pairsAdd(w0, s, x, ones, a0); a1 = pairsAdd(w1, s, x, ones, a1);
    s = v128.load32_splat(b, 60); x = v128.load32_splat(b, 28); b0 = pairsAdd(w0, s, x, ones, b0); b1 = pairsAdd(w1, s, x, ones, b1);
    const eightScales = v128.load(block - half * 16);
    const s0 = firstScales(eightScales), s1 = lastScales(eightScales);
    addEight(ya, a0, a1, s0, s1, v128.load32_splat(scales + at));
    if (toB != 0) addEight(yb, b0, b1, s0, s1, v128.load32_splat(scales + toGroups + at));
    block += blockBytes;
    a += groupBytes;
    b += groupBytes;
  }
}

/**
 * Rows times a matrix, for outputs in whole panels: y [rows, outputs] f32. x, [rows, groups] of
 * magnitudes and signs, comes with `scales` f32 [rows, groups] and `starts` i32 [rows, groups]. A panel
 * is used for all rows while it is in the nearest cache.
 */
export function multiplyRows(
  weights: usize, outputs: i32, groups: i32, x: usize, rows: i32, scales: usize, starts: usize,
  y: usize,
): void {
  const xBytes = <usize>groups * groupBytes, rowGroups = <usize>groups << 2;
  const yStride = <usize>outputs << 2;
  const fours = rows & -4;
  let panel = weights;
  for (let output = 0; output < outputs; output += panelOutputs) {
    const column = y + (<usize>output << 2);
    for (let row = 0; row < fours; row += 4) {
      const from = x + <usize>row * xBytes, to = column + <usize>row * yStride;
      const scale = scales + <usize>row * rowGroups, start = starts + <usize>row * rowGroups;
      multiplyFourByEight(panel, 0, groups, from, scale, start, to, yStride);
      multiplyFourByEight(panel, 1, groups, from, scale, start, to + 32, yStride);
    }
    for (let row = fours; row < rows; row += 2) {
      const from = x + <usize>row * xBytes, to = column + <usize>row * yStride;
      const scale = scales + <usize>row * rowGroups, start = starts + <usize>row * rowGroups;
      const hasTwo: usize = row + 1 < rows ? 1 : 0;
      const toB = hasTwo * xBytes, toGroups = hasTwo * rowGroups, other = to + hasTwo * yStride;
      multiplyTwoByEight(panel, 0, groups, from, toB, scale, start, toGroups, to, other);
      multiplyTwoByEight(panel, 1, groups, from, toB, scale, start, toGroups, to + 32, other + 32);
    }
    panel += <usize>groups * blockBytes;
  }
}

/** Stores 16 numbers, and returns their sum if negative, in 8 × i16. */
@inline
function storeMagnitudes(q: usize, x: v128): void {
  v128.store(q, i8x16.abs(x), 0);
  v128.store(q, i8x16.shr_s(x, 7), 32);
}

/**
 * Quantizes x f32 [rows, 32·groups] to int8, each group by its largest magnitude: q = round(x/scale),
 * scale = largest/127, and stores magnitudes and signs. `starts` gets Σ|q| of each group's negative q.
 * There is no offset here, and `offset` is not used.
 */
export function quantizeRows(
  x: usize, rows: i32, groups: i32, offset: i32, q: usize, scales: usize, starts: usize,
): void {
  const zero = i32x4.splat(0), minusOnes = i16x8.splat(-1);
  for (let group = rows * groups; group > 0; group--) {
    const largest = largestMagnitude(x);
    const factor = f32x4.splat(largest > 0 ? 127 / largest : 0);
    const a = roundedEight(x, factor), b = roundedEight(x + 32, factor);
    const c = roundedEight(x + 64, factor), d = roundedEight(x + 96, factor);
    storeMagnitudes(q, i8x16.narrow_i16x8_s(a, b));
    storeMagnitudes(q + 16, i8x16.narrow_i16x8_s(c, d));
    // Four numbers of at most 127 each fit into 16 bits.
    const negative = i16x8.add(
      i16x8.add(i16x8.min_s(a, zero), i16x8.min_s(b, zero)),
      i16x8.add(i16x8.min_s(c, zero), i16x8.min_s(d, zero)),
    );
    let start = i32x4.dot_i16x8_s(negative, minusOnes);
    start = i32x4.add(start, v128.shuffle<i32>(start, start, 2, 3, 0, 1));
    start = i32x4.add(start, v128.shuffle<i32>(start, start, 1, 0, 3, 2));
    store<f32>(scales, largest / 127);
    store<i32>(starts, i32x4.extract_lane(start, 0));
    x += groupInputs << 2;
    q += groupBytes;
    scales += 4;
    starts += 4;
  }
}
