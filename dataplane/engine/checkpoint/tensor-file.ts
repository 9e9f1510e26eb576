import { type FileHandle, open, stat } from "node:fs/promises";
import { EngineError } from "../engine-error.ts";
import { type TensorFormat, tensorFormats } from "./tensor-formats.ts";

/** Rows are read in pieces of about this size, whatever the size of the matrix. */
const readBytes = 1 << 18;

/** Where a tensor lies in its file, as the file's header says. */
export interface TensorEntry {
  /** As written in the file; only those of `tensorFormats` can be read. */
  format: string;
  shape: readonly number[];
  elements: number;
  /** Where the data begins, in bytes from the start of the file, and how long it is. */
  offset: number;
  bytes: number;
  /**
   * Set where the file has, in each head of this many rows, row i beside row i + half a head, for a
   * rotary embedding that turns neighbours. Such rows are read in the order of Hugging Face.
   */
  interleavedHeadSize?: number;
}

/** Half-open ranges of rows and columns of a matrix. */
export interface MatrixSlice {
  rows: readonly [number, number];
  columns: readonly [number, number];
}

/**
 * An open file of weights. What knows a file format reads the header and names the tensors as Hugging
 * Face does; from there on all formats are the same: rows of blocks at an offset.
 */
export class TensorFile {
  readonly path: string;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly #handle: FileHandle;
  /** What the last reader has left for the next one: loading would be all garbage else. */
  #spare: Buffer | undefined;

  constructor(path: string, handle: FileHandle, tensors: ReadonlyMap<string, TensorEntry>) {
    this.path = path;
    this.#handle = handle;
    this.tensors = tensors;
  }

  /**
   * A slice of a matrix as f32, [rows, columns] of the slice. Reads the slice's rows from the file
   * and keeps its columns; of interleaved rows, whole heads. Throws EngineError. The result is the
   * beginning of `into`, which has to be large enough, or else new.
   */
  async readMatrix(
    name: string,
    shape: readonly number[],
    slice: MatrixSlice,
    into?: Float32Array<ArrayBuffer>,
  ): Promise<Float32Array<ArrayBuffer>> {
    const entry = expectTensor(this.tensors, name, shape);
    const format = formatOf(name, entry);
    const width = shape.at(-1) ?? 1;
    const rowBytes = (width / format.blockLength) * format.blockBytes;
    const [firstRow, endRow] = slice.rows;
    const [firstColumn, endColumn] = slice.columns;
    const kept = endColumn - firstColumn;
    const head = entry.interleavedHeadSize;
    const first = head === undefined ? firstRow : firstRow - (firstRow % head);
    const end = head === undefined ? endRow : Math.ceil(endRow / head) * head;
    const rowsAtOnce = Math.max(1, Math.min(end - first, Math.floor(readBytes / rowBytes)));
    const buffer = this.#takeBuffer(rowsAtOnce * rowBytes);
    const length = (endRow - firstRow) * kept;
    const target = into?.subarray(0, length) ?? new Float32Array(length);
    for (let row = first; row < end; row += rowsAtOnce) {
      const rows = Math.min(rowsAtOnce, end - row);
      await this.#read(buffer, rows * rowBytes, entry.offset + row * rowBytes);
      if (head === undefined && kept === width) {
        format.decode(buffer, 0, 0, rows * width, target, (row - firstRow) * width);
        continue;
      }
      for (let i = 0; i < rows; i += 1) {
        const to = (head === undefined ? row + i : straightRow(row + i, head)) - firstRow;
        if (to < 0 || to >= endRow - firstRow) continue;
        format.decode(buffer, i * rowBytes, firstColumn, kept, target, to * kept);
      }
    }
    this.#spare = buffer;
    return target; // [rows, columns] f32
  }

  #takeBuffer(bytes: number): Buffer {
    const spare = this.#spare;
    this.#spare = undefined;
    return spare !== undefined && spare.length >= bytes ? spare : Buffer.allocUnsafeSlow(bytes);
  }

  /** The first bytes of a tensor as they are, at most `bytes` of them. */
  async readStart(entry: TensorEntry, bytes: number): Promise<Uint8Array> {
    const buffer = Buffer.alloc(Math.min(bytes, entry.bytes));
    await this.#read(buffer, buffer.length, entry.offset);
    return buffer;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #read(buffer: Buffer, bytes: number, position: number): Promise<void> {
    let done = 0;
    while (done < bytes) {
      const { bytesRead } = await this.#handle.read(buffer, done, bytes - done, position + done);
      if (bytesRead === 0) throw damaged(this.path, "the file became shorter while it was read");
      done += bytesRead;
    }
  }
}

/** A file to read from, and its size in bytes. Throws EngineError "invalid_checkpoint". */
export async function openFile(path: string): Promise<{ handle: FileHandle; sizeBytes: number }> {
  try {
    // Opening a pipe would wait for its writer.
    if (!(await stat(path)).isFile()) throw new Error(`${path} is no file`);
    const handle = await open(path);
    return { handle, sizeBytes: (await handle.stat()).size };
  } catch (cause) {
    throw damaged(path, "it cannot be opened", cause);
  }
}

/** The entry of a tensor that has to be there in this shape. Throws EngineError. */
export function expectTensor(
  tensors: ReadonlyMap<string, TensorEntry>,
  name: string,
  shape: readonly number[],
): TensorEntry {
  const entry = tensors.get(name);
  if (entry === undefined) {
    throw new EngineError("invalid_checkpoint", `The checkpoint lacks tensor ${name}.`);
  }
  formatOf(name, entry);
  if (entry.shape.join() === shape.join()) return entry;
  const message = `${name} has the shape [${clipped(`${entry.shape}`)}]; `;
  throw new EngineError("invalid_checkpoint", `${message}the configuration asks for [${shape}].`);
}

function formatOf(name: string, entry: TensorEntry): TensorFormat {
  const format = tensorFormats.get(entry.format);
  if (format !== undefined) return format;
  const supported = [...tensorFormats.keys()].join(", ");
  throw new EngineError(
    "unsupported_model",
    `The tensor ${name} is of type ${clipped(entry.format)}; supported are ${supported}.`,
  );
}

/** Throws EngineError "invalid_checkpoint" when two tensors share bytes of the file. */
export function refuseOverlaps(file: string, tensors: ReadonlyMap<string, TensorEntry>): void {
  const ordered = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes);
  let end = 0;
  for (const [name, entry] of ordered) {
    if (entry.offset < end) throw damaged(file, `${name} overlaps another tensor`);
    end = entry.offset + entry.bytes;
  }
}

/** Which row of Hugging Face's order the file's row is. */
function straightRow(row: number, headSize: number): number {
  const within = row % headSize;
  return row - within + (within >>> 1) + (within & 1) * (headSize / 2);
}

/** Part of a message that a file may have made long. */
function clipped(text: string): string {
  return text.length <= 300 ? text : `${text.slice(0, 300)}…`;
}

export function damaged(file: string, reason: string, cause?: unknown): EngineError {
  return new EngineError("invalid_checkpoint", `${clipped(file)}: ${clipped(reason)}.`, { cause });
}
