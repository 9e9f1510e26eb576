import type { RotaryAngles } from "../kernels.ts";

/** Turns, in place, the first `heads` heads of each row of x [rows, stride] by the row's angles. */
export function rotate(
  x: Float32Array,
  stride: number,
  heads: number,
  { rows, cosines, sines }: RotaryAngles,
): void {
  const half = cosines.length / rows;
  for (let row = 0; row < rows; row += 1) {
    for (let head = 0; head < heads; head += 1) {
      const at = row * stride + head * half * 2;
      for (let i = 0; i < half; i += 1) {
        const cosine = cosines[row * half + i] as number;
        const sine = sines[row * half + i] as number;
        const first = x[at + i] as number;
        const second = x[at + half + i] as number;
        x[at + i] = first * cosine - second * sine;
        x[at + half + i] = second * cosine + first * sine;
      }
    }
  }
}
