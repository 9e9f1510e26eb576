/**
 * Scales each row of x [rows, weight.length] to a root mean square of 1 and multiplies it by
 * `weight`, into y of the same shape. Zhang and Sennrich, "Root Mean Square Layer Normalization"
 * (2019).
 */
export function rmsNorm(
  x: Float32Array,
  rows: number,
  weight: Float32Array,
  epsilon: number,
  y: Float32Array,
): void {
  const width = weight.length;
  for (let row = 0; row < rows; row += 1) {
    const at = row * width;
    let squares = 0;
    for (let i = 0; i < width; i += 1) squares += (x[at + i] as number) ** 2;
    const scale = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i += 1) {
      y[at + i] = (x[at + i] as number) * scale * (weight[i] as number);
    }
  }
}
