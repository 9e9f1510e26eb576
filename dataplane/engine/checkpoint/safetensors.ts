/**
 * Reads the header of a safetensors file. The format: 8 bytes with the header's length (u64,
 * little-endian), the header (JSON: name → dtype, shape, data_offsets), then the data, to which the
 * offsets are relative. Nothing in the file is believed before it is checked against the file's size, so a
 * damaged file gives an error and never a huge allocation.
 */

import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";
import { damaged, openFile, refuseOverlaps, type TensorEntry, TensorFile } from "./tensor-file.ts";
import { tensorFormats } from "./tensor-formats.ts";

/** The format's own limit. */
const maxHeaderBytes = 100_000_000;

/** Opens the file and reads its header. Throws EngineError "invalid_checkpoint". */
export async function openSafetensors(path: string): Promise<TensorFile> {
  const { handle, sizeBytes } = await openFile(path);
  try {
    return new TensorFile(path, handle, await readHeader(handle, basename(path), sizeBytes));
  } catch (error) {
    await handle.close();
    throw error;
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
  const tensors = new Map<string, TensorEntry>();
  for (const [tensor, value] of Object.entries(json)) {
    if (tensor === "__metadata__") continue;
    tensors.set(tensor, parseEntry(name, tensor, value, dataStart, sizeBytes));
  }
  refuseOverlaps(name, tensors);
  return tensors;
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
  const blockBytes = tensorFormats.get(dtype)?.blockBytes;
  if (blockBytes !== undefined && elements * blockBytes !== end - begin) {
    throw damaged(file, `${name} has the shape [${shape}] of ${dtype}, but ${end - begin} bytes`);
  }
  return { format: dtype, shape, elements, offset: dataStart + begin, bytes: end - begin };
}

function isListOfCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}
