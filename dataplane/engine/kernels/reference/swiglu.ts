/**
 * y [rows, columns] = silu(gate)·up, elementwise; gateUp is [rows, 2·columns], in each row gate
 * before up. Shazeer, "GLU Variants" (2020).
 */
export function swiglu(gateUp: Float32Array, rows: number, columns: number, y: Float32Array): void {
  for (let row = 0; row < rows; row += 1) {
    const at = row * 2 * columns;
    for (let i = 0; i < columns; i += 1) {
      const gate = gateUp[at + i] as number;
      const up = gateUp[at + columns + i] as number;
      y[row * columns + i] = (gate / (1 + Math.exp(-gate))) * up;
    }
  }
}
