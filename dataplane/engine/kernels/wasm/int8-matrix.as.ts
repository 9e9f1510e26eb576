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

/** y[0 … 8) += the products of a group, for one row. */
@inline
function addEight(y: usize, p0: v128, p1: v128, s0: v128, s1: v128, inputScale: v128): void {
  v128.store(y, addScaled(v128.load(y, 0), p0, s0, inputScale), 0);
  v128.store(y, addScaled(v128.load(y, 16), p1, s1, inputScale), 16);
}

/**
 * Six rows times eight outputs of a panel, the first or the last ones. Weights are loaded once for six
 * rows, and 12 sums, two vectors of weights and one of inputs are all that the registers hold. For each
 * row the same operations in the same order as in `multiplyRow`, hence the same bits.
 *
 * It is unrolled, and written in the order in which it is to run: that is worth a third of its speed.
 */
function multiplySixByEight(
  panel: usize, half: usize, groups: usize, a: usize, scales: usize, starts: usize, ya: usize,
  yStride: usize,
): void {
  const xBytes = groups * groupInputs, groupBytes = groups << 2;
  let b = a + xBytes, c = b + xBytes, d = c + xBytes, e = d + xBytes, f = e + xBytes;
  const yb = ya + yStride, yc = yb + yStride, yd = yc + yStride, ye = yd + yStride, yf = ye + yStride;
  for (let row = 0, y = ya; row < 6; row++, y += yStride) memory.fill(y, 0, 32);
  // The weights of the last eight outputs are 32 bytes behind those of the first, their scales 16.
  let block = panel + half * 32;
  for (let at: usize = 0; at < groupBytes; at += 4) {
    let a0 = v128.load32_splat(starts + at), a1 = a0;
    let b0 = v128.load32_splat(starts + 1 * groupBytes + at), b1 = b0;
    let c0 = v128.load32_splat(starts + 2 * groupBytes + at), c1 = c0;
    let d0 = v128.load32_splat(starts + 3 * groupBytes + at), d1 = d0;
    let e0 = v128.load32_splat(starts + 4 * groupBytes + at), e1 = e0;
    let f0 = v128.load32_splat(starts + 5 * groupBytes + at), f1 = f0;
    let w0 = v128.load(block, 32), w1 = v128.load(block, 48);
    let x = v128.load32_splat(a, 0); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1);
    x = v128.load32_splat(b, 0); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1);
    x = v128.load32_splat(c, 0); c0 = dotAdd(x, w0, c0); c1 = dotAdd(x, w1, c1);
    x = v128.load32_splat(d, 0); d0 = dotAdd(x, w0, d0); d1 = dotAdd(x, w1, d1);
    x = v128.load32_splat(e, 0); e0 = dotAdd(x, w0, e0); e1 = dotAdd(x, w1, e1);
    x = v128.load32_splat(f, 0); f0 = dotAdd(x, w0, f0); f1 = dotAdd(x, w1, f1);
    w0 = v128.load(block, 96); w1 = v128.load(block, 112);
    x = v128.load32_splat(a, 4); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1);
    x = v128.load32_splat(b, 4); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1);
    x = v128.load32_splat(c, 4); c0 = dotAdd(x, w0, c0); c1 = dotAdd(x, w1, c1);
    x = v128.load32_splat(d, 4); d0 = dotAdd(x, w0, d0); d1 = dotAdd(x, w1, d1);
    x = v128.load32_splat(e, 4); e0 = dotAdd(x, w0, e0); e1 = dotAdd(x, w1, e1);
    x = v128.load32_splat(f, 4); f0 = dotAdd(x, w0, f0); f1 = dotAdd(x, w1, f1);
    w0 = v128.load(block, 160); w1 = v128.load(block, 176);
    x = v128.load32_splat(a, 8); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1);
    x = v128.load32_splat(b, 8); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1);
    x = v128.load32_splat(c, 8); c0 = dotAdd(x, w0, c0); c1 = dotAdd(x, w1, c1);
    x = v128.load32_splat(d, 8); d0 = dotAdd(x, w0, d0); d1 = dotAdd(x, w1, d1);
    x = v128.load32_splat(e, 8); e0 = dotAdd(x, w0, e0); e1 = dotAdd(x, w1, e1);
    x = v128.load32_splat(f, 8); f0 = dotAdd(x, w0, f0); f1 = dotAdd(x, w1, f1);
    w0 = v128.load(block, 224); w1 = v128.load(block, 240);
    x = v128.load32_splat(a, 12); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1);
    x = v128.load32_splat(b, 12); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1);
    x = v128.load32_splat(c, 12); c0 = dotAdd(x, w0, c0); c1 = dotAdd(x, w1, c1);
    x = v128.load32_splat(d, 12); d0 = dotAdd(x, w0, d0); d1 = dotAdd(x, w1, d1);
    x = v128.load32_splat(e, 12); e0 = dotAdd(x, w0, e0); e1 = dotAdd(x, w1, e1);
    x = v128.load32_splat(f, 12); f0 = dotAdd(x, w0, f0); f1 = dotAdd(x, w1, f1);
    w0 = v128.load(block, 288); w1 = v128.load(block, 304);
    x = v128.load32_splat(a, 16); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1);
    x = v128.load32_splat(b, 16); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1);
    x = v128.load32_splat(c, 16); c0 = dotAdd(x, w0, c0); c1 = dotAdd(x, w1, c1);
    x = v128.load32_splat(d, 16); d0 = dotAdd(x, w0, d0); d1 = dotAdd(x, w1, d1);
    x = v128.load32_splat(e, 16); e0 = dotAdd(x, w0, e0); e1 = dotAdd(x, w1, e1);
    x = v128.load32_splat(f, 16); f0 = dotAdd(x, w0, f0); f1 = dotAdd(x, w1, f1);
    w0 = v128.load(block, 352); w1 = v128.load(block, 368);
    x = v128.load32_splat(a, 20); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1);
    x = v128.load32_splat(b, 20); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1);
    x = v128.load32_splat(c, 20); c0 = dotAdd(x, w0, c0); c1 = dotAdd(x, w1, c1);
    x = v128.load32_splat(d, 20); d0 = dotAdd(x, w0, d0); d1 = dotAdd(x, w1, d1);
    x = v128.load32_splat(e, 20); e0 = dotAdd(x, w0, e0); e1 = dotAdd(x, w1, e1);
    x = v128.load32_splat(f, 20); f0 = dotAdd(x, w0, f0); f1 = dotAdd(x, w1, f1);
    w0 = v128.load(block, 416); w1 = v128.load(block, 432);
    x = v128.load32_splat(a, 24); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1);
    x = v128.load32_splat(b, 24); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1);
    x = v128.load32_splat(c, 24); c0 = dotAdd(x, w0, c0); c1 = dotAdd(x, w1, c1);
    x = v128.load32_splat(d, 24); d0 = dotAdd(x, w0, d0); d1 = dotAdd(x, w1, d1);
    x = v128.load32_splat(e, 24); e0 = dotAdd(x, w0, e0); e1 = dotAdd(x, w1, e1);
    x = v128.load32_splat(f, 24); f0 = dotAdd(x, w0, f0); f1 = dotAdd(x, w1, f1);
    w0 = v128.load(block, 480); w1 = v128.load(block, 496);
    x = v128.load32_splat(a, 28); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1);
    x = v128.load32_splat(b, 28); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1);
    x = v128.load32_splat(c, 28); c0 = dotAdd(x, w0, c0); c1 = dotAdd(x, w1, c1);
    x = v128.load32_splat(d, 28); d0 = dotAdd(x, w0, d0); d1 = dotAdd(x, w1, d1);
    x = v128.load32_splat(e, 28); e0 = dotAdd(x, w0, e0); e1 = dotAdd(x, w1, e1);
    x = v128.load32_splat(f, 28); f0 = dotAdd(x, w0, f0); f1 = dotAdd(x, w1, f1);
    const eightScales = v128.load(block - half * 16);
    const s0 = firstScales(eightScales), s1 = lastScales(eightScales);
    const scale = scales + at;
    addEight(ya, a0, a1, s0, s1, v128.load32_splat(scale));
    addEight(yb, b0, b1, s0, s1, v128.load32_splat(scale + groupBytes));
    addEight(yc, c0, c1, s0, s1, v128.load32_splat(scale + 2 * groupBytes));
    addEight(yd, d0, d1, s0, s1, v128.load32_splat(scale + 3 * groupBytes));
    addEight(ye, e0, e1, s0, s1, v128.load32_splat(scale + 4 * groupBytes));
    addEight(yf, f0, f1, s0, s1, v128.load32_splat(scale + 5 * groupBytes));
    block += blockBytes;
    a += groupInputs;
    b += groupInputs;
    c += groupInputs;
    d += groupInputs;
    e += groupInputs;
    f += groupInputs;
  }
}

/**
 * Two rows times a panel: for what sixes leave over. The second row's distances from the first are 0
 * when there is none.
 */
function multiplyTwoBySixteen(
  panel: usize, groups: usize, a: usize, toB: usize, scales: usize, starts: usize,
  groupBytes: usize, ya: usize, yb: usize,
): void {
  let b = a + toB;
  const end = groups << 2;
  for (let y = 0; y < 64; y += 16) {
    v128.store(ya + y, f32x4.splat(0));
    v128.store(yb + y, f32x4.splat(0));
  }
  let block = panel;
  for (let at: usize = 0; at < end; at += 4) {
    let a0 = v128.load32_splat(starts + at), a1 = a0, a2 = a0, a3 = a0;
    let b0 = v128.load32_splat(starts + groupBytes + at), b1 = b0, b2 = b0, b3 = b0;
    let w0 = v128.load(block, 32), w1 = v128.load(block, 48), w2 = v128.load(block, 64), w3 = v128.load(block, 80);
    let x = v128.load32_splat(a, 0); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1); a2 = dotAdd(x, w2, a2); a3 = dotAdd(x, w3, a3);
    x = v128.load32_splat(b, 0); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1); b2 = dotAdd(x, w2, b2); b3 = dotAdd(x, w3, b3);
    w0 = v128.load(block, 96); w1 = v128.load(block, 112); w2 = v128.load(block, 128); w3 = v128.load(block, 144);
    x = v128.load32_splat(a, 4); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1); a2 = dotAdd(x, w2, a2); a3 = dotAdd(x, w3, a3);
    x = v128.load32_splat(b, 4); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1); b2 = dotAdd(x, w2, b2); b3 = dotAdd(x, w3, b3);
    w0 = v128.load(block, 160); w1 = v128.load(block, 176); w2 = v128.load(block, 192); w3 = v128.load(block, 208);
    x = v128.load32_splat(a, 8); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1); a2 = dotAdd(x, w2, a2); a3 = dotAdd(x, w3, a3);
    x = v128.load32_splat(b, 8); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1); b2 = dotAdd(x, w2, b2); b3 = dotAdd(x, w3, b3);
    w0 = v128.load(block, 224); w1 = v128.load(block, 240); w2 = v128.load(block, 256); w3 = v128.load(block, 272);
    x = v128.load32_splat(a, 12); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1); a2 = dotAdd(x, w2, a2); a3 = dotAdd(x, w3, a3);
    x = v128.load32_splat(b, 12); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1); b2 = dotAdd(x, w2, b2); b3 = dotAdd(x, w3, b3);
    w0 = v128.load(block, 288); w1 = v128.load(block, 304); w2 = v128.load(block, 320); w3 = v128.load(block, 336);
    x = v128.load32_splat(a, 16); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1); a2 = dotAdd(x, w2, a2); a3 = dotAdd(x, w3, a3);
    x = v128.load32_splat(b, 16); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1); b2 = dotAdd(x, w2, b2); b3 = dotAdd(x, w3, b3);
    w0 = v128.load(block, 352); w1 = v128.load(block, 368); w2 = v128.load(block, 384); w3 = v128.load(block, 400);
    x = v128.load32_splat(a, 20); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1); a2 = dotAdd(x, w2, a2); a3 = dotAdd(x, w3, a3);
    x = v128.load32_splat(b, 20); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1); b2 = dotAdd(x, w2, b2); b3 = dotAdd(x, w3, b3);
    w0 = v128.load(block, 416); w1 = v128.load(block, 432); w2 = v128.load(block, 448); w3 = v128.load(block, 464);
    x = v128.load32_splat(a, 24); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1); a2 = dotAdd(x, w2, a2); a3 = dotAdd(x, w3, a3);
    x = v128.load32_splat(b, 24); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1); b2 = dotAdd(x, w2, b2); b3 = dotAdd(x, w3, b3);
    w0 = v128.load(block, 480); w1 = v128.load(block, 496); w2 = v128.load(block, 512); w3 = v128.load(block, 528);
    x = v128.load32_splat(a, 28); a0 = dotAdd(x, w0, a0); a1 = dotAdd(x, w1, a1); a2 = dotAdd(x, w2, a2); a3 = dotAdd(x, w3, a3);
    x = v128.load32_splat(b, 28); b0 = dotAdd(x, w0, b0); b1 = dotAdd(x, w1, b1); b2 = dotAdd(x, w2, b2); b3 = dotAdd(x, w3, b3);
    const scales0 = v128.load(block, 0), scales1 = v128.load(block, 16);
    const s0 = firstScales(scales0), s1 = lastScales(scales0);
    const s2 = firstScales(scales1), s3 = lastScales(scales1);
    const scaleA = v128.load32_splat(scales + at);
    const scaleB = v128.load32_splat(scales + groupBytes + at);
    addEight(ya, a0, a1, s0, s1, scaleA);
    addEight(ya + 32, a2, a3, s2, s3, scaleA);
    if (toB != 0) {
      addEight(yb, b0, b1, s0, s1, scaleB);
      addEight(yb + 32, b2, b3, s2, s3, scaleB);
    }
    block += blockBytes;
    a += groupInputs;
    b += groupInputs;
  }
}

/**
 * Rows times a matrix, for outputs in whole panels: y [rows, outputs] f32. x int8 [rows, 32·groups] comes
 * with `scales` f32 [rows, groups] and `starts` i32 [rows, groups]. A panel is used for all rows while
 * it is in the nearest cache.
 */
export function multiplyRows(
  weights: usize, outputs: i32, groups: i32, x: usize, rows: i32, scales: usize, starts: usize,
  y: usize,
): void {
  const xBytes = <usize>groups * groupInputs, groupBytes = <usize>groups << 2;
  const yStride = <usize>outputs << 2;
  const sixes = rows - rows % 6;
  let panel = weights;
  for (let output = 0; output < outputs; output += panelOutputs) {
    const column = y + (<usize>output << 2);
    for (let row = 0; row < sixes; row += 6) {
      const from = x + <usize>row * xBytes, to = column + <usize>row * yStride;
      const scale = scales + <usize>row * groupBytes, start = starts + <usize>row * groupBytes;
      multiplySixByEight(panel, 0, groups, from, scale, start, to, yStride);
      multiplySixByEight(panel, 1, groups, from, scale, start, to + 32, yStride);
    }
    for (let row = sixes; row < rows; row += 2) {
      const from = x + <usize>row * xBytes, to = column + <usize>row * yStride;
      const scale = scales + <usize>row * groupBytes, start = starts + <usize>row * groupBytes;
      const hasTwo: usize = row + 1 < rows ? 1 : 0;
      multiplyTwoBySixteen(panel, groups, from, hasTwo * xBytes, scale, start, hasTwo * groupBytes,
        to, to + hasTwo * yStride);
    }
    panel += <usize>groups * blockBytes;
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
