import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Checkpoint } from "../../dataplane/engine/checkpoint/checkpoint.ts";
import { openSafetensors } from "../../dataplane/engine/checkpoint/safetensors.ts";
import type { TensorFile } from "../../dataplane/engine/checkpoint/tensor-file.ts";
import {
  encodeSafetensors,
  temporaryFolder,
  tinyConfig,
  withHeader,
  writeTinyCheckpoint,
} from "./tiny-checkpoint.ts";

async function open(bytes: Buffer): Promise<TensorFile> {
  const path = join(temporaryFolder(), "model.safetensors");
  writeFileSync(path, bytes);
  const file = await openSafetensors(path);
  onTestFinished(() => file.close());
  return file;
}

const numbers = Array.from({ length: 12 }, (_, i) => i - 5.5);

describe("a slice holds the numbers of its rows and columns", () => {
  test.each(["F32", "F16", "BF16"] as const)("%s", async (dtype) => {
    const tensor = { dtype, shape: [3, 4], values: numbers };
    const file = await open(
      encodeSafetensors(
        new Map([
          ["other", tensor],
          ["w", tensor],
        ]),
      ),
    );
    const slice = { rows: [1, 3], columns: [1, 3] } as const;
    const values = await file.readMatrix("w", [3, 4], slice);
    expect([...values]).toEqual([-0.5, 0.5, 3.5, 4.5]);
  });

  test("of a matrix that is read in several pieces", async () => {
    const values = Array.from({ length: 700 * 1000 }, (_, i) => i % 65_536);
    const tensor = { dtype: "F32", shape: [700, 1000], values } as const;
    const file = await open(encodeSafetensors(new Map([["w", { ...tensor, shape: [700, 1000] }]])));
    const slice = { rows: [10, 690], columns: [990, 1000] } as const;
    const read = await file.readMatrix("w", [700, 1000], slice);
    expect(read.length).toBe(6800);
    expect(
      read.every((value, i) => {
        return value === values[(10 + Math.floor(i / 10)) * 1000 + 990 + (i % 10)];
      }),
    ).toBe(true);
  });

  test("zeros, infinities and the smallest halves", async () => {
    const halves = Buffer.alloc(10);
    [0x8000, 0x7c00, 0xfc00, 0x0001, 0x03ff].forEach((bits, i) => {
      halves.writeUInt16LE(bits, i * 2);
    });
    const header = JSON.stringify({ w: { dtype: "F16", shape: [5], data_offsets: [0, 10] } });
    const file = await open(withHeader(header, halves));
    const values = await file.readMatrix("w", [5], { rows: [0, 1], columns: [0, 5] });
    const { POSITIVE_INFINITY, NEGATIVE_INFINITY } = Number;
    const expected = [-0, POSITIVE_INFINITY, NEGATIVE_INFINITY, 2 ** -24, 1023 * 2 ** -24];
    expect([...values]).toEqual(expected);
  });
});

describe("a damaged file is refused before anything is allocated for it", () => {
  const entry = (fields: object) =>
    withHeader(
      JSON.stringify({ w: { dtype: "F32", shape: [2, 2], data_offsets: [0, 16], ...fields } }),
      Buffer.alloc(16),
    );
  const hugeHeader = Buffer.alloc(64);
  hugeHeader.writeBigUInt64LE(2n ** 63n);
  const damages: [string, Buffer, RegExp][] = [
    ["an empty one", Buffer.alloc(0), /no room for a header/],
    ["a header longer than the file", hugeHeader, /header claims/],
    ["a header that is no JSON", withHeader("{]", Buffer.alloc(0)), /no JSON/],
    ["a header that is no object", withHeader("null", Buffer.alloc(0)), /no object/],
    ["offsets past the end", entry({ data_offsets: [0, 2 ** 50] }), /claims bytes/],
    ["offsets that run backwards", entry({ data_offsets: [16, 0] }), /claims bytes/],
    ["offsets that are no numbers", entry({ data_offsets: ["0", 16] }), /data_offsets/],
    ["a negative shape", entry({ shape: [-2, -2] }), /shape/],
    ["a shape that needs more bytes", entry({ shape: [1e9, 1e9] }), /but 16 bytes/],
    ["no dtype", entry({ dtype: undefined }), /dtype/],
    [
      "tensors over each other",
      withHeader(
        JSON.stringify({
          a: { dtype: "F32", shape: [2], data_offsets: [0, 8] },
          b: { dtype: "F32", shape: [2], data_offsets: [4, 12] },
        }),
        Buffer.alloc(12),
      ),
      /overlaps/,
    ],
  ];
  test.each(damages)("%s", async (_, bytes, message) => {
    await expect(open(bytes)).rejects.toMatchObject({
      code: "invalid_checkpoint",
      message: expect.stringMatching(message),
    });
  });

  test("one that was cut off", async () => {
    const { folder } = writeTinyCheckpoint();
    truncateSync(join(folder, "model.safetensors"), 20_000);
    await expect(Checkpoint.open(folder)).rejects.toMatchObject({ code: "invalid_checkpoint" });
  });

  test("a tensor of another shape than the configuration's", async () => {
    const file = await open(entry({}));
    const slice = { rows: [0, 3], columns: [0, 2] } as const;
    await expect(file.readMatrix("w", [3, 2], slice)).rejects.toMatchObject({
      code: "invalid_checkpoint",
      message: expect.stringContaining("the configuration asks for [3,2]"),
    });
  });

  test("a dtype that we do not read", async () => {
    const file = await open(entry({ dtype: "I32" }));
    const slice = { rows: [0, 2], columns: [0, 2] } as const;
    await expect(file.readMatrix("w", [2, 2], slice)).rejects.toMatchObject({
      code: "unsupported_model",
      message: expect.stringContaining("supported are F32, F16, BF16"),
    });
  });

  test("a tensor that is not there", async () => {
    const checkpoint = await Checkpoint.open(writeTinyCheckpoint().folder);
    await expect(checkpoint.vector("model.nowhere", 3)).rejects.toMatchObject({
      code: "invalid_checkpoint",
      message: expect.stringContaining("model.nowhere"),
    });
    await checkpoint.close();
  });

  test("an index that leads out of the folder", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "config.json"), JSON.stringify(tinyConfig));
    const index = JSON.stringify({ weight_map: { w: "../elsewhere.safetensors" } });
    writeFileSync(join(folder, "model.safetensors.index.json"), index);
    await expect(Checkpoint.open(folder)).rejects.toMatchObject({ code: "invalid_checkpoint" });
  });
});

test("the fingerprint tells other weights of the same shape apart, and copies not", async () => {
  const fingerprint = async (seed: number) => {
    const checkpoint = await Checkpoint.open(writeTinyCheckpoint({ seed }).folder);
    await checkpoint.close();
    return checkpoint.fingerprint;
  };
  expect(await fingerprint(1)).toBe(await fingerprint(1));
  expect(await fingerprint(1)).not.toBe(await fingerprint(2));
});
