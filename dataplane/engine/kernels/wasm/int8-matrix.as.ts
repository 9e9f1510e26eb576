/**
 * Rows times int8 weights (panel.as.ts tells how these lie), by a dot instruction that adds four
 * products of a lane at once. Weights may have an offset; its share of a sum, −offset·Σx, is what the
 * sums of a group begin with.
 */

import { dotAdd } from "./machine.as";
import {
  addEight, addScaled, blockBytes, firstScales, groupInputs, largestMagnitude, lastScales, panelOutputs,
  roundedEight, storeSixteen,
} from "./panel.as";

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
