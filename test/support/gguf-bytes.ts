/** Writes GGUF files for tests, byte by byte as the format says, sound ones and others. */

export type GgufTestValue = string | boolean | number | string[] | { f32: number | number[] } | Raw;

/** Content that the writer knows nothing about, to write what is wrong. */
interface Raw {
  type: number;
  content: Buffer;
}

export interface GgufTestTensor {
  name: string;
  /** Rows before columns. */
  shape: number[];
  /** ggml's number. */
  type: number;
  data: Buffer;
  /** Where the header says that it begins, if not where it does. */
  offset?: number;
}

const types = { u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

export function ggufBytes(
  values: Readonly<Record<string, GgufTestValue | number[]>>,
  tensors: readonly GgufTestTensor[] = [],
  { version = 3, alignment = 32 } = {},
): Buffer {
  const entries = Object.entries(values).map(([key, value]) => {
    return Buffer.concat([string(key), valueBytes(value)]);
  });
  const data: Buffer[] = [];
  let end = 0;
  const infos = tensors.map(({ name, shape, type, data: content, offset = end }) => {
    const padding = Buffer.alloc(-content.length & (alignment - 1));
    data.push(content, padding);
    end += content.length + padding.length;
    const dimensions = shape.toReversed().map(u64);
    return Buffer.concat([string(name), u32(shape.length), ...dimensions, u32(type), u64(offset)]);
  });
  const counts = [u64(tensors.length), u64(entries.length)];
  const head = Buffer.concat([Buffer.from("GGUF"), u32(version), ...counts, ...entries, ...infos]);
  return Buffer.concat([head, Buffer.alloc(-head.length & (alignment - 1)), ...data]);
}

/** Values in JSON for a header: strings, numbers, lists of either. Fractions are f32. */
function valueBytes(value: GgufTestValue | number[]): Buffer {
  if (typeof value === "string") return Buffer.concat([u32(types.string), string(value)]);
  if (typeof value === "boolean") {
    return Buffer.concat([u32(types.bool), Buffer.from([Number(value)])]);
  }
  if (typeof value === "number") return Buffer.concat([u32(types.u32), u32(value)]);
  if (Array.isArray(value)) return listBytes(value);
  if ("content" in value) return Buffer.concat([u32(value.type), value.content]);
  if (!Array.isArray(value.f32)) return Buffer.concat([u32(types.f32), f32(value.f32)]);
  const count = u64(value.f32.length);
  return Buffer.concat([u32(types.array), u32(types.f32), count, ...value.f32.map(f32)]);
}

function listBytes(items: string[] | number[]): Buffer {
  const isText = typeof items[0] === "string";
  const head = [u32(types.array), u32(isText ? types.string : types.i32), u64(items.length)];
  const content = items.map((item) => (typeof item === "string" ? string(item) : i32(item)));
  return Buffer.concat([...head, ...content]);
}

function string(text: string): Buffer {
  const content = Buffer.from(text);
  return Buffer.concat([u64(content.length), content]);
}

export function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

export function u64(value: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer;
}

function i32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeInt32LE(value);
  return buffer;
}

function f32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeFloatLE(value);
  return buffer;
}
