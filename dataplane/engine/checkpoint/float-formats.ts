/**
 * The number formats of weights in a checkpoint, and their conversion to f32. Files and supported
 * machines are little-endian.
 */

export const bytesPerElement = { F32: 4, F16: 2, BF16: 2 } as const;

export type FloatFormat = keyof typeof bytesPerElement;

export function isFloatFormat(name: unknown): name is FloatFormat {
  return typeof name === "string" && Object.hasOwn(bytesPerElement, name);
}

/** Converts `target.length` elements that start at `offset` bytes of `source` to f32. */
export function decodeFloats(
  format: FloatFormat,
  source: DataView,
  offset: number,
  target: Float32Array,
): void {
  if (format === "F32") {
    for (let i = 0; i < target.length; i += 1) {
      target[i] = source.getFloat32(offset + i * 4, true);
    }
  } else if (format === "BF16") {
    decodeBf16(source, offset, target);
  } else {
    for (let i = 0; i < target.length; i += 1) {
      target[i] = halfToNumber(source.getUint16(offset + i * 2, true));
    }
  }
}

/** bf16 is the upper half of f32. */
function decodeBf16(source: DataView, offset: number, target: Float32Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < target.length; i += 1) {
    bits[i] = source.getUint16(offset + i * 2, true) << 16;
  }
}

/** IEEE 754 binary16: 1 sign bit, 5 of exponent, 10 of fraction. */
function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
