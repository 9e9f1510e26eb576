/**
 * The instructions that differ between machines. With relaxed SIMD each is one instruction of
 * whatever machine it is; `exactArithmetic` (set when compiling) builds them of plain SIMD instead,
 * which is slower, and the same everywhere.
 */

/** sums [4] + the dot products of x [4 × 4] and w [4 × 4]: int8 · int8 → i32. */
@inline
export function dotAdd(x: v128, w: v128, sums: v128): v128 {
  if (!exactArithmetic) return i32x4.relaxed_dot_i8x16_i7x16_add_s(x, w, sums);
  const low = i32x4.dot_i16x8_s(i16x8.extend_low_i8x16_s(x), i16x8.extend_low_i8x16_s(w));
  const high = i32x4.dot_i16x8_s(i16x8.extend_high_i8x16_s(x), i16x8.extend_high_i8x16_s(w));
  const even = v128.shuffle<i32>(low, high, 0, 2, 4, 6);
  const odd = v128.shuffle<i32>(low, high, 1, 3, 5, 7);
  return i32x4.add(sums, i32x4.add(even, odd));
}

/**
 * sums [4] + the dot products of x [4 × 4] and ±w [4 × 4], where x ≥ 0 and a sign of −1 flips the bits of
 * a weight. `ones` are eight in 16 bits, in a register: V8 makes those of the one instruction that does
 * all of this anew each time.
 */
@inline
export function pairsAdd(w: v128, signs: v128, x: v128, ones: v128, sums: v128): v128 {
  const pairs = i16x8.relaxed_dot_i8x16_i7x16_s(v128.xor(w, signs), x);
  return i32x4.add(i32x4.dot_i16x8_s(pairs, ones), sums);
}

/** a·b + c, rounded once where the machine can. */
@inline
export function multiplyAdd(a: v128, b: v128, c: v128): v128 {
  return exactArithmetic ? f32x4.add(f32x4.mul(a, b), c) : f32x4.relaxed_madd(a, b, c);
}

/** Floats that are integers below 2³¹, as such. */
@inline
export function truncate(x: v128): v128 {
  return exactArithmetic ? i32x4.trunc_sat_f32x4_s(x) : i32x4.relaxed_trunc_f32x4_s(x);
}

/** What the dot instruction makes of 16 bytes each: for finding out how it reads them. */
export function probeDot(x: usize, w: usize, sums: usize): void {
  v128.store(sums, dotAdd(v128.load(x), v128.load(w), i32x4.splat(0)));
}
