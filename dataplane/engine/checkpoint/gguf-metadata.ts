import { damaged } from "./tensor-file.ts";

/** Types of values, by GGUF's numbers. */
export const valueTypes = { bool: 7, string: 8, array: 9 } as const;

/** Bytes of the values that have a fixed size, by type. */
export const scalarBytes: ReadonlyMap<number, number> = new Map([
  [0, 1],
  [1, 1],
  [2, 2],
  [3, 2],
  [4, 4],
  [5, 4],
  [6, 4],
  [valueTypes.bool, 1],
  [10, 8],
  [11, 8],
  [12, 8],
]);

type Reader = (view: DataView, at: number) => number;

const numberReaders: ReadonlyMap<number, Reader> = new Map<number, Reader>([
  [0, (view, at) => view.getUint8(at)],
  [1, (view, at) => view.getInt8(at)],
  [2, (view, at) => view.getUint16(at, true)],
  [3, (view, at) => view.getInt16(at, true)],
  [4, (view, at) => view.getUint32(at, true)],
  [5, (view, at) => view.getInt32(at, true)],
  [6, (view, at) => view.getFloat32(at, true)],
  [10, (view, at) => Number(view.getBigUint64(at, true))],
  [11, (view, at) => Number(view.getBigInt64(at, true))],
  [12, (view, at) => view.getFloat64(at, true)],
]);

/** Where a value lies in the header. */
export interface GgufValue {
  /** Of an array, the type of its items. */
  type: number;
  isArray: boolean;
  count: number;
  /** Offset of the content, in bytes from the start of the file. */
  at: number;
}

/**
 * The values of a GGUF header, by key. Each method returns undefined when the key is not there, and
 * throws EngineError "invalid_checkpoint" when its value is of another type.
 */
export class GgufMetadata {
  readonly #name: string;
  readonly #bytes: Buffer;
  readonly #view: DataView;
  readonly #values: ReadonlyMap<string, GgufValue>;

  /** `name` is for messages; `bytes` are the file from its start, as far as `values` lie in it. */
  constructor(name: string, bytes: Buffer, values: ReadonlyMap<string, GgufValue>) {
    this.#name = name;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#values = values;
  }

  keys(): string[] {
    return [...this.#values.keys()];
  }

  /** Items of an array. */
  count(key: string): number | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    if (!value.isArray) throw damaged(this.#name, `${key} is no array`);
    return value.count;
  }

  /** Of whatever type; a list is no scalar. */
  scalar(key: string): string | number | boolean | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    if (value.isArray) throw damaged(this.#name, `${key} is a list, and should be one value`);
    if (value.type === valueTypes.string) return this.#stringsFrom(value)[0];
    if (value.type === valueTypes.bool) return this.#bytes[value.at] !== 0;
    return this.#numbersFrom(key, value)[0];
  }

  string(key: string): string | undefined {
    const value = this.scalar(key);
    if (value === undefined || typeof value === "string") return value;
    throw damaged(this.#name, `${key} is no text`);
  }

  boolean(key: string): boolean | undefined {
    const value = this.scalar(key);
    if (value === undefined || typeof value === "boolean") return value;
    throw damaged(this.#name, `${key} is not true or false`);
  }

  number(key: string): number | undefined {
    const value = this.scalar(key);
    if (value === undefined || typeof value === "number") return value;
    throw damaged(this.#name, `${key} is no number`);
  }

  /** An integer that is exact in a double. */
  integer(key: string): number | undefined {
    const number = this.number(key);
    if (number === undefined || Number.isSafeInteger(number)) return number;
    throw damaged(this.#name, `${key} is ${number}, and no integer`);
  }

  strings(key: string): string[] | undefined {
    const value = this.#array(key);
    if (value === undefined) return undefined;
    if (value.type !== valueTypes.string) throw damaged(this.#name, `${key} is no list of texts`);
    return this.#stringsFrom(value);
  }

  /** A list of exactly `count` numbers. */
  numbers(key: string, count: number): number[] | undefined {
    const value = this.#array(key);
    if (value === undefined) return undefined;
    if (value.count !== count) {
      throw damaged(this.#name, `${key} has ${value.count} items, and should have ${count}`);
    }
    return this.#numbersFrom(key, value);
  }

  #array(key: string): GgufValue | undefined {
    return this.count(key) === undefined ? undefined : this.#values.get(key);
  }

  #stringsFrom(value: GgufValue): string[] {
    let at = value.at;
    return Array.from({ length: value.count }, () => {
      const start = at + 8;
      at = start + Number(this.#view.getBigUint64(at, true));
      return this.#bytes.toString("utf8", start, at);
    });
  }

  #numbersFrom(key: string, value: GgufValue): number[] {
    const read = numberReaders.get(value.type);
    const step = scalarBytes.get(value.type);
    if (read === undefined || step === undefined) throw damaged(this.#name, `${key} is no number`);
    return Array.from({ length: value.count }, (_, i) => read(this.#view, value.at + i * step));
  }
}
