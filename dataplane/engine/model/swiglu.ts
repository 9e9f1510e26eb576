/** gate = silu(gate)·up, elementwise over the first `count`. Shazeer, "GLU Variants" (2020). */
export function swiglu(gate: Float32Array, up: Float32Array, count: number): void {
  for (let i = 0; i < count; i += 1) {
    const value = gate[i] as number;
    gate[i] = (value / (1 + Math.exp(-value))) * (up[i] as number);
  }
}
