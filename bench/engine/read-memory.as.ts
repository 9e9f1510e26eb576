/** Compiled by read-bandwidth.ts. Reads all of a range of memory, as fast as that goes. */

/**
 * The sum of the words from `start` to `end`, both multiples of 128. It keeps the compiler from
 * leaving the reads out.
 */
export function readMemory(start: usize, end: usize): i64 {
  let a = i64x2.splat(0);
  let b = i64x2.splat(0);
  let c = i64x2.splat(0);
  let d = i64x2.splat(0);
  for (let at = start; at < end; at += 128) {
    a = i64x2.add(a, v128.load(at));
    b = i64x2.add(b, v128.load(at, 16));
    c = i64x2.add(c, v128.load(at, 32));
    d = i64x2.add(d, v128.load(at, 48));
    a = i64x2.add(a, v128.load(at, 64));
    b = i64x2.add(b, v128.load(at, 80));
    c = i64x2.add(c, v128.load(at, 96));
    d = i64x2.add(d, v128.load(at, 112));
  }
  const sum = i64x2.add(i64x2.add(a, b), i64x2.add(c, d));
  return i64x2.extract_lane(sum, 0) + i64x2.extract_lane(sum, 1);
}
