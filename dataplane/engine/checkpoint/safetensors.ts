/**
 * Reads tensors from a safetensors file. The format: 8 bytes with the header's length (u64,
 * little-endian), the header (JSON: name → dtype, shape, data_offsets), then the data, to which the
 * offsets are relative. Nothing in the file is believed before it is checked against the file's size, so a
 * damaged file gives an error and never a huge allocation.
 */

import { type FileHandle, open } from "node:fs/promises";
import { basename } from "node:path";
import { EngineError } from "../engine-error.ts";
import { bytesPerElement, decodeFloats, type FloatFormat, isFloatFormat } from "./float-formats.ts";

/** The format's own limit. */
const maxHeaderBytes = 100_000_000;
/** Rows are read in pieces of about this size, whatever the size of the matrix. */
const readBytes = 1 << 18;

export interface TensorEntry {
  /** As written in the file; only the formats of `FloatFormat` can be read. */
  dtype: string;
  shape: number[];
  elements: number;
  /** Where the data begins, in bytes from the start of the file, and how long it is. */
  offset: number;
  bytes: number;
}

/** Half-open ranges of rows and columns of a matrix. */
export interface MatrixSlice {
  rows: readonly [number, number];
  columns: readonly [number, number];
}

export class SafetensorsFile {
  readonly path: string;
  readonly sizeBytes: number;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly #handle: FileHandle;

  private constructor(
    path: string,
    handle: FileHandle,
    sizeBytes: number,
    tensors: Map<string, TensorEntry>,
  ) {
    this.path = path;
    this.#handle = handle;
    this.sizeBytes = sizeBytes;
    this.tensors = tensors;
  }

  /** Opens the file and reads its header. Throws EngineError "invalid_checkpoint". */
  static async open(path: string): Promise<SafetensorsFile> {
    const handle = await open(path).catch((cause: unknown) => {
      throw new EngineError("invalid_checkpoint", `${path} cannot be opened.`, { cause });
    });
    try {
      const { size } = await handle.stat();
      const tensors = await readHeader(handle, basename(path), size);
      return new SafetensorsFile(path, handle, size, tensors);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * A slice of a matrix as f32, [rows, columns] of the slice. Reads the slice's rows from the file
   * and keeps its columns; when `columns` is the whole width nothing else is read.
   */
  async readMatrix(name: string, shape: readonly number[], slice: MatrixSlice) {
    const entry = this.#entry(name, shape);
    const format = floatFormat(name, entry);
    const width = shape.at(-1) ?? 1;
    const [firstRow, endRow] = slice.rows;
    const [firstColumn, endColumn] = slice.columns;
    const kept = endColumn - firstColumn;
    const rowBytes = width * bytesPerElement[format];
    const rowsAtOnce = Math.max(1, Math.min(endRow - firstRow, Math.floor(readBytes / rowBytes)));
    const buffer = new DataView(new ArrayBuffer(rowsAtOnce * rowBytes));
    const target = new Float32Array((endRow - firstRow) * kept);
    for (let row = firstRow; row < endRow; row += rowsAtOnce) {
      const rows = Math.min(rowsAtOnce, endRow - row);
      await this.#read(buffer, rows * rowBytes, entry.offset + row * rowBytes);
      for (let i = 0; i < rows; i += 1) {
        const at = (row - firstRow + i) * kept;
        const from = i * rowBytes + firstColumn * bytesPerElement[format];
        decodeFloats(format, buffer, from, target.subarray(at, at + kept));
      }
    }
    return target; // [rows, columns] f32
  }

  /** The first bytes of a tensor as they are, at most `bytes` of them. */
  async readStart(entry: TensorEntry, bytes: number): Promise<Uint8Array> {
    const buffer = new DataView(new ArrayBuffer(Math.min(bytes, entry.bytes)));
    await this.#read(buffer, buffer.byteLength, entry.offset);
    return new Uint8Array(buffer.buffer);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  #entry(name: string, shape: readonly number[]): TensorEntry {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw damaged(this.path, `there is no tensor ${name}`);
    if (entry.shape.join() !== shape.join()) {
      throw damaged(
        this.path,
        `${name} has the shape [${entry.shape}]; the configuration asks for [${shape}]`,
      );
    }
    return entry;
  }

  async #read(buffer: DataView, bytes: number, position: number): Promise<void> {
    let done = 0;
    while (done < bytes) {
      const { bytesRead } = await this.#handle.read(buffer, done, bytes - done, position + done);
      if (bytesRead === 0) throw damaged(this.path, "the file became shorter while it was read");
      done += bytesRead;
    }
  }
}

async function readHeader(
  handle: FileHandle,
  name: string,
  sizeBytes: number,
): Promise<Map<string, TensorEntry>> {
  if (sizeBytes < 8) throw damaged(name, `it has ${sizeBytes} bytes, and no room for a header`);
  const prefix = new DataView(new ArrayBuffer(8));
  await handle.read(prefix, 0, 8, 0);
  const headerBytes = Number(prefix.getBigUint64(0, true));
  if (headerBytes > Math.min(maxHeaderBytes, sizeBytes - 8)) {
    throw damaged(name, `its header claims ${headerBytes} bytes; the file has ${sizeBytes}`);
  }
  const header = Buffer.alloc(headerBytes);
  await handle.read(header, 0, headerBytes, 8);
  let json: unknown;
  try {
    json = JSON.parse(header.toString("utf8"));
  } catch (cause) {
    throw damaged(name, "its header is no JSON", cause);
  }
  if (typeof json !== "object" || json === null) throw damaged(name, "its header is no object");
  const dataStart = 8 + headerBytes;
  const tensors = Object.entries(json)
    .filter(([tensor]) => tensor !== "__metadata__")
    .map(([tensor, value]): [string, TensorEntry] => {
      return [tensor, parseEntry(name, tensor, value, dataStart, sizeBytes)];
    });
  refuseOverlaps(name, tensors);
  return new Map(tensors);
}

function parseEntry(
  file: string,
  name: string,
  value: unknown,
  dataStart: number,
  sizeBytes: number,
): TensorEntry {
  const {
    dtype,
    shape,
    data_offsets,
  }: { dtype?: unknown; shape?: unknown; data_offsets?: unknown } = Object(value);
  if (typeof dtype !== "string") throw damaged(file, `${name} has no dtype`);
  if (!isListOfCounts(shape)) throw damaged(file, `${name} has no valid shape`);
  if (!isListOfCounts(data_offsets) || data_offsets.length !== 2) {
    throw damaged(file, `${name} has no valid data_offsets`);
  }
  const [begin = 0, end = 0] = data_offsets;
  if (begin > end || dataStart + end > sizeBytes) {
    throw damaged(
      file,
      `${name} claims bytes ${begin} to ${end} of the data, which has ${sizeBytes - dataStart}`,
    );
  }
  const elements = shape.reduce((product, size) => product * size, 1);
  if (isFloatFormat(dtype) && elements * bytesPerElement[dtype] !== end - begin) {
    throw damaged(file, `${name} has the shape [${shape}] of ${dtype}, but ${end - begin} bytes`);
  }
  return { dtype, shape, elements, offset: dataStart + begin, bytes: end - begin };
}

function refuseOverlaps(file: string, tensors: readonly [string, TensorEntry][]): void {
  const ordered = tensors.toSorted(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes);
  let end = 0;
  for (const [name, entry] of ordered) {
    if (entry.offset < end) throw damaged(file, `${name} overlaps another tensor`);
    end = entry.offset + entry.bytes;
  }
}

function isListOfCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function floatFormat(name: string, entry: TensorEntry): FloatFormat {
  if (isFloatFormat(entry.dtype)) return entry.dtype;
  const supported = Object.keys(bytesPerElement).join(", ");
  throw new EngineError(
    "unsupported_model",
    `The tensor ${name} is of dtype ${entry.dtype}; supported are ${supported}.`,
  );
}

function damaged(file: string, reason: string, cause?: unknown): EngineError {
  return new EngineError("invalid_checkpoint", `${file}: ${reason}.`, { cause });
}
