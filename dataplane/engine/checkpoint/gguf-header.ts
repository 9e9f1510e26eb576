/**
 * Reads the header of a GGUF file, version 2 or 3
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): the letters GGUF, the version, how
 * many tensors and how many values there are; then the values (key, type, content), then the tensors
 * (name, dimensions, type, offset). The data begins at the next multiple of the alignment. Numbers are
 * little-endian, counts and lengths 64 bits wide.
 *
 * Nothing in the file is believed before it is checked against the file's size. The content of a
 * value is only stepped over, and decoded when it is asked for: each rank reads the header, and a
 * vocabulary is most of it.
 */

import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { basename } from "node:path";
import { EngineError } from "../engine-error.ts";
import { GgufMetadata, type GgufValue, scalarBytes, valueTypes } from "./gguf-metadata.ts";
import { damaged } from "./tensor-file.ts";

/** Far beyond the header of any model; a vocabulary of 256,000 tokens takes about 16 MB. */
const maxHeaderBytes = 1 << 27;
const firstReadBytes = 1 << 21;
const maxValues = 1 << 16;
const maxTensors = 1 << 16;
const maxKeyBytes = 1 << 16;
const maxDimensions = 4;

/** A tensor as the file names it; its type is a number of ggml's. */
export interface GgufTensor {
  name: string;
  /** Rows before columns, as everywhere else; the file has it the other way round. */
  shape: number[];
  type: number;
  /** From the start of the data, in bytes. */
  offset: number;
}

export interface GgufHeader {
  metadata: GgufMetadata;
  tensors: GgufTensor[];
  /** Where the data begins, in bytes from the start of the file. */
  dataStart: number;
  alignment: number;
  sizeBytes: number;
  /** The header as it is. */
  bytes: Uint8Array;
}

/** Throws EngineError "invalid_checkpoint", or "unsupported_model" for another version. */
export function readGgufHeader(path: string): GgufHeader {
  const file = openGguf(path);
  try {
    const sizeBytes = fstatSync(file).size;
    for (let length = firstReadBytes; ; length *= 4) {
      const bytes = readStart(file, Math.min(length, sizeBytes, maxHeaderBytes));
      const header = parseHeader(basename(path), bytes, sizeBytes);
      if (header !== undefined) return header;
      if (bytes.length < sizeBytes && bytes.length < maxHeaderBytes) continue;
      throw damaged(basename(path), `it ends, or has ${maxHeaderBytes} bytes, within its header`);
    }
  } finally {
    closeSync(file);
  }
}

function openGguf(path: string): number {
  try {
    // Opening a pipe would wait for its writer.
    if (!statSync(path).isFile()) throw new Error(`${path} is no file`);
    return openSync(path, "r");
  } catch (cause) {
    throw damaged(path, "it cannot be opened", cause);
  }
}

function readStart(file: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const count = readSync(file, buffer, done, length - done, done);
    if (count === 0) break;
    done += count;
  }
  return buffer.subarray(0, done);
}

/** Undefined when the header goes on behind `bytes`, the start of a file of `sizeBytes`. */
function parseHeader(name: string, bytes: Buffer, sizeBytes: number): GgufHeader | undefined {
  const cursor = new Cursor(name, bytes, sizeBytes);
  try {
    expectVersion(name, cursor);
    const tensorCount = cursor.count("tensors", maxTensors);
    const values = readValues(name, cursor, cursor.count("values", maxValues));
    const metadata = new GgufMetadata(name, bytes, values);
    const tensors = Array.from({ length: tensorCount }, () => readTensor(name, cursor));
    const alignment = metadata.integer("general.alignment") ?? 32;
    if (alignment < 8 || !Number.isInteger(Math.log2(alignment))) {
      throw damaged(name, `general.alignment is ${alignment}, and no power of two from 8 on`);
    }
    const dataStart = Math.ceil(cursor.position / alignment) * alignment;
    const used = bytes.subarray(0, cursor.position);
    return { metadata, tensors, dataStart, alignment, sizeBytes, bytes: used };
  } catch (error) {
    if (error instanceof HeaderGoesOn) return undefined;
    throw error;
  }
}

function expectVersion(name: string, cursor: Cursor): void {
  if (cursor.bytes.toString("latin1", 0, 4) !== "GGUF") throw damaged(name, "it is no GGUF file");
  cursor.take(4);
  const version = cursor.u32();
  if (version === 2 || version === 3) return;
  const found = version % 0x10000 === 0 ? "big-endian" : `of version ${version}`;
  const message = `${name} is a GGUF file ${found}; supported are versions 2 and 3, little-endian.`;
  throw new EngineError("unsupported_model", message);
}

function readValues(name: string, cursor: Cursor, count: number): Map<string, GgufValue> {
  const values = new Map<string, GgufValue>();
  for (let i = 0; i < count; i += 1) {
    const key = cursor.text(maxKeyBytes);
    if (values.has(key)) throw damaged(name, `${key} is there twice`);
    values.set(key, readValue(name, key, cursor));
  }
  return values;
}

/** Steps over a value. */
function readValue(name: string, key: string, cursor: Cursor): GgufValue {
  const type = cursor.u32();
  if (type !== valueTypes.array) {
    const at = cursor.position;
    step(name, key, cursor, type, 1);
    return { type, isArray: false, count: 1, at };
  }
  const itemType = cursor.u32();
  if (itemType === valueTypes.array) throw damaged(name, `${key} is an array of arrays`);
  const count = cursor.u64();
  const at = cursor.position;
  step(name, key, cursor, itemType, count);
  return { type: itemType, isArray: true, count, at };
}

function step(name: string, key: string, cursor: Cursor, type: number, count: number): void {
  if (type === valueTypes.string) {
    cursor.expect(count * 8);
    for (let i = 0; i < count; i += 1) cursor.take(cursor.u64());
    return;
  }
  const bytes = scalarBytes.get(type);
  if (bytes === undefined) throw damaged(name, `${key} is of type ${type}, which GGUF lacks`);
  cursor.take(bytes * count);
}

function readTensor(file: string, cursor: Cursor): GgufTensor {
  const name = cursor.text(maxKeyBytes);
  const dimensions = cursor.u32();
  if (dimensions > maxDimensions) throw damaged(file, `${name} has ${dimensions} dimensions`);
  const shape = Array.from({ length: dimensions }, () => cursor.u64()).reverse();
  return { name, shape, type: cursor.u32(), offset: cursor.u64() };
}

/** The loaded bytes end, and the file does not. */
class HeaderGoesOn extends Error {}

class Cursor {
  readonly bytes: Buffer;
  position = 0;
  readonly #name: string;
  readonly #sizeBytes: number;

  constructor(name: string, bytes: Buffer, sizeBytes: number) {
    this.#name = name;
    this.bytes = bytes;
    this.#sizeBytes = sizeBytes;
  }

  /** Steps over so many bytes, and returns where they begin. */
  take(count: number): number {
    this.expect(count);
    if (this.position + count > this.bytes.length) throw new HeaderGoesOn();
    const at = this.position;
    this.position += count;
    return at;
  }

  /** Throws when the file cannot have so many more bytes. */
  expect(count: number): void {
    if (this.position + count <= this.#sizeBytes) return;
    throw damaged(
      this.#name,
      `its header claims ${count} bytes from ${this.position} on; the file has ${this.#sizeBytes}`,
    );
  }

  u32(): number {
    return this.bytes.readUInt32LE(this.take(4));
  }

  /** One beyond 2^53 is rounded, and larger than any file. */
  u64(): number {
    const at = this.take(8);
    return this.bytes.readUInt32LE(at) + this.bytes.readUInt32LE(at + 4) * 2 ** 32;
  }

  count(what: string, limit: number): number {
    const count = this.u64();
    if (count <= limit) return count;
    throw damaged(this.#name, `it claims ${count} ${what}, and may have ${limit}`);
  }

  text(limit: number): string {
    const length = this.u64();
    if (length > limit) throw damaged(this.#name, `it has a name of ${length} bytes`);
    const at = this.take(length);
    return this.bytes.toString("utf8", at, at + length);
  }
}
