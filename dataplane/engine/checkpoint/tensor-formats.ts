/**
 * The number formats of weights in a checkpoint, and their conversion to f32. A row of a matrix is a
 * row of blocks; a plain float is a block of one. Files and supported machines are little-endian.
 *
 * Block formats are ggml's (https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h).
 */

export interface TensorFormat {
  /** Elements of a block. The width of every matrix is a multiple of it. */
  blockLength: number;
  blockBytes: number;
  /**
   * Decodes elements first … first + count of what begins at byte `at` of `source` into `target` from
   * `to` on. `source` begins at a multiple of 8 bytes of its buffer, and `at` at a whole block.
   */
  decode(
    source: Uint8Array,
    at: number,
    first: number,
    count: number,
    target: Float32Array,
    to: number,
  ): void;
}

type BlockDecoder = (source: Uint8Array, at: number, target: Float32Array, to: number) => void;

/** By their names in safetensors and in GGUF, which agree. */
export const tensorFormats: ReadonlyMap<string, TensorFormat> = new Map([
  ["F32", { blockLength: 1, blockBytes: 4, decode: decodeF32 }],
  ["F16", { blockLength: 1, blockBytes: 2, decode: decodeF16 }],
  ["BF16", { blockLength: 1, blockBytes: 2, decode: decodeBf16 }],
  ["Q8_0", blockFormat(32, 34, decodeQ8)],
  ["Q4_0", blockFormat(32, 18, decodeQ4)],
  ["Q4_1", blockFormat(32, 20, decodeQ4WithMinimum)],
]);

function decodeF32(
  source: Uint8Array,
  at: number,
  first: number,
  count: number,
  target: Float32Array,
  to: number,
): void {
  target.set(new Float32Array(source.buffer, source.byteOffset + at + first * 4, count), to);
}

function decodeF16(
  source: Uint8Array,
  at: number,
  first: number,
  count: number,
  target: Float32Array,
  to: number,
): void {
  const halves = new Uint16Array(source.buffer, source.byteOffset + at + first * 2, count);
  for (let i = 0; i < count; i += 1) target[to + i] = halfValues[halves[i] as number] as number;
}

/** bf16 is the upper half of f32. */
function decodeBf16(
  source: Uint8Array,
  at: number,
  first: number,
  count: number,
  target: Float32Array,
  to: number,
): void {
  const halves = new Uint16Array(source.buffer, source.byteOffset + at + first * 2, count);
  const bits = new Uint32Array(target.buffer, target.byteOffset + to * 4, count);
  for (let i = 0; i < count; i += 1) bits[i] = (halves[i] as number) << 16;
}

/** A range that begins or ends within a block takes its part of the whole block. */
function blockFormat(
  blockLength: number,
  blockBytes: number,
  decodeBlock: BlockDecoder,
): TensorFormat {
  const block = new Float32Array(blockLength);
  const decode: TensorFormat["decode"] = (source, at, first, count, target, to) => {
    for (let done = 0; done < count; ) {
      const within = (first + done) % blockLength;
      const length = Math.min(blockLength - within, count - done);
      const blockAt = at + ((first + done - within) / blockLength) * blockBytes;
      if (length === blockLength) {
        decodeBlock(source, blockAt, target, to + done);
      } else {
        decodeBlock(source, blockAt, block, 0);
        target.set(block.subarray(within, within + length), to + done);
      }
      done += length;
    }
  };
  return { blockLength, blockBytes, decode };
}

/** A scale, then 32 signed bytes. */
function decodeQ8(source: Uint8Array, at: number, target: Float32Array, to: number): void {
  const scale = halfAt(source, at);
  for (let i = 0; i < 32; i += 1) {
    target[to + i] = (((source[at + 2 + i] as number) << 24) >> 24) * scale;
  }
}

/** A scale, then 32 half bytes that count from −8: elements 0 … 15 low, 16 … 31 high. */
function decodeQ4(source: Uint8Array, at: number, target: Float32Array, to: number): void {
  const scale = halfAt(source, at);
  for (let i = 0; i < 16; i += 1) {
    const pair = source[at + 2 + i] as number;
    target[to + i] = ((pair & 15) - 8) * scale;
    target[to + 16 + i] = ((pair >>> 4) - 8) * scale;
  }
}

/** A scale, what is added, then 32 half bytes: elements 0 … 15 low, 16 … 31 high. */
function decodeQ4WithMinimum(
  source: Uint8Array,
  at: number,
  target: Float32Array,
  to: number,
): void {
  const scale = halfAt(source, at);
  const minimum = halfAt(source, at + 2);
  for (let i = 0; i < 16; i += 1) {
    const pair = source[at + 4 + i] as number;
    target[to + i] = (pair & 15) * scale + minimum;
    target[to + 16 + i] = (pair >>> 4) * scale + minimum;
  }
}

/** The value of every half. */
const halfValues = Float32Array.from({ length: 0x10000 }, (_, bits) => halfToNumber(bits));

function halfAt(source: Uint8Array, at: number): number {
  return halfValues[(source[at] as number) | ((source[at + 1] as number) << 8)] as number;
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
