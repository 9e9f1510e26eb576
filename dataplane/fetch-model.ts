import { createWriteStream } from "node:fs";
import { mkdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join, resolve, sep } from "node:path";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { GetObjectCommand, paginateListObjectsV2, S3Client } from "@aws-sdk/client-s3";
import { fetchModelConfig } from "./config.ts";

/**
 * Brings a checkpoint from the model bucket into a folder, for the embedded engine: vLLM streams its own. It
 * runs before a pod's other containers and ends; a run that was cut off is simply run again.
 */
const help = `
node dataplane/fetch-model.ts: brings a checkpoint's files from S3.

It is configured by the environment:
  AXON_MODEL_URL    s3://BUCKET/FOLDER
  AXON_MODEL_DIR    the folder that they come into
and by what the AWS SDK reads: AWS_REGION, AWS_ENDPOINT_URL_S3, credentials.
`;

interface RemoteFile {
  key: string;
  /** Below the checkpoint's folder. */
  path: string;
  bytes: number;
}

/** Files that are on their way at the same time: S3 gives each connection some 100 MB/s. */
const atOnce = 8;
const mostAttempts = 4;

async function list(
  s3: S3Client,
  { bucket, prefix }: { bucket: string; prefix: string },
): Promise<RemoteFile[]> {
  const files: RemoteFile[] = [];
  const pages = paginateListObjectsV2({ client: s3 }, { Bucket: bucket, Prefix: `${prefix}/` });
  for await (const { Contents = [] } of pages) {
    for (const { Key: key = "", Size: bytes = 0 } of Contents) {
      const path = key.slice(prefix.length + 1);
      if (path === "" || path.endsWith("/")) continue;
      files.push({ key, path, bytes });
    }
  }
  return files;
}

/** The file has its name only when all of it is there. */
async function download(
  s3: S3Client,
  bucket: string,
  { key, path, bytes }: RemoteFile,
  folder: string,
): Promise<void> {
  const target = resolve(folder, path);
  if (!target.startsWith(resolve(folder) + sep)) throw new Error(`${key} leads out of the folder.`);
  await mkdir(dirname(target), { recursive: true });
  const { Body } = await s3.send(new GetObjectCommand({ Bucket: bucket, Key: key }));
  if (Body === undefined) throw new Error(`${key} has no content.`);
  const partial = `${target}.partial`;
  await pipeline(Body as Readable, createWriteStream(partial));
  const { size } = await stat(partial);
  if (size !== bytes) throw new Error(`${key} has ${bytes} bytes, and ${size} came.`);
  await rename(partial, target);
}

/** S3 may break off in the middle of a file, which the SDK does not try again. */
async function downloadPatiently(...file: Parameters<typeof download>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await download(...file);
    } catch (error) {
      if (attempt === mostAttempts) throw error;
      process.stderr.write(`${file[2].key}: ${String(error)}; again\n`);
    }
  }
}

async function main(): Promise<void> {
  if (process.argv.includes("--help")) {
    process.stdout.write(`${help.trim()}\n`);
    return;
  }
  const { AXON_MODEL_URL: source, AXON_MODEL_DIR: folder } = fetchModelConfig(process.env);
  const s3 = new S3Client();
  const files = await list(s3, source);
  if (files.length === 0) {
    throw new Error(`There is nothing in s3://${source.bucket}/${source.prefix}.`);
  }
  const startedAt = performance.now();
  const waiting = [...files];
  const carry = async () => {
    for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
      await downloadPatiently(s3, source.bucket, file, folder);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, carry)).catch(async (error: unknown) => {
    waiting.length = 0;
    await Promise.all(
      files.map(({ path }) => rm(join(folder, `${path}.partial`), { force: true })),
    );
    throw error;
  });
  const seconds = (performance.now() - startedAt) / 1_000;
  const mib = files.reduce((sum, { bytes }) => sum + bytes, 0) / 2 ** 20;
  process.stdout.write(
    `${files.length} files, ${mib.toFixed(1)} MiB in ${seconds.toFixed(1)} s: ${folder}\n`,
  );
}

await main();
