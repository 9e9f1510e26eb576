import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { CreateBucketCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import { parts } from "../support/parts.ts";

const program = join(import.meta.dirname, "..", "..", "dataplane", "fetch-model.ts");
const bucket = "axon-test-models";
const credentials = { accessKeyId: "test", secretAccessKey: "test" };
const weights = Buffer.alloc(3_000_000, "w");

beforeAll(async () => {
  const endpoint = parts().sqsEndpoint;
  const s3 = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true, credentials });
  await s3.send(new CreateBucketCommand({ Bucket: bucket }));
  for (const [key, body] of Object.entries({
    "tiny/1/config.json": "{}",
    "tiny/1/tokenizer.json": '{"version":"1.0"}',
    "tiny/1/model-00001-of-00002.safetensors": weights,
    "tiny/1/more/notes.txt": "notes",
    "tiny/10/config.json": "another revision's",
  })) {
    await s3.send(new PutObjectCommand({ Bucket: bucket, Key: key, Body: body }));
  }
  s3.destroy();
});

function fetchInto(folder: string, env: Record<string, string>) {
  return promisify(execFile)(process.execPath, [program], {
    env: {
      PATH: process.env["PATH"],
      AWS_REGION: "us-east-1",
      AWS_ACCESS_KEY_ID: credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
      // The bucket in the path: where the emulator is found is no name that buckets can stand before.
      AWS_ENDPOINT_URL_S3: parts().sqsEndpoint.replace("localhost", "127.0.0.1"),
      AXON_MODEL_DIR: folder,
      ...env,
    },
  });
}

function emptyFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "axon-model-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  return folder;
}

const filesIn = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name)
    .sort();

test("all files of a checkpoint come, and those of no other", async () => {
  const folder = emptyFolder();
  const { stdout } = await fetchInto(folder, { AXON_MODEL_URL: `s3://${bucket}/tiny/1` });
  expect(stdout).toMatch(/^4 files, 2\.9 MiB in /);
  expect(filesIn(folder)).toEqual([
    "config.json",
    "model-00001-of-00002.safetensors",
    "notes.txt",
    "tokenizer.json",
  ]);
  expect(readFileSync(join(folder, "model-00001-of-00002.safetensors")).equals(weights)).toBe(true);
});

test("a folder with nothing in it is an error", async () => {
  await expect(fetchInto(emptyFolder(), { AXON_MODEL_URL: `s3://${bucket}/none` })).rejects.toThrow(
    /There is nothing in s3:\/\/axon-test-models\/none/,
  );
});
