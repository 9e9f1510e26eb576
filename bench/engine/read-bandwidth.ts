import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import asc from "assemblyscript/asc";

/** 512 MB of all threads together, far more than caches hold; in pages of WebAssembly. */
const totalPages = 8192;
const passes = 8;

export interface ReadOrder {
  module: WebAssembly.Module;
  bytes: number;
  passes: number;
  threads: number;
  /** How many threads are ready to begin. */
  arrivals: Int32Array;
}

export interface ReadTimes {
  durationNs: number;
  /** Of what was read; whoever posts it cannot have left the reading out. */
  sum: bigint;
}

/** Bytes a second that so many threads read from memory together, in WebAssembly. */
export async function measureReadBandwidth(threads: number): Promise<number> {
  const module = new WebAssembly.Module(await compile());
  const bytes = Math.floor(totalPages / threads) * 65_536;
  const arrivals = new Int32Array(new SharedArrayBuffer(4));
  const order: ReadOrder = { module, bytes, passes, threads, arrivals };
  const times = await Promise.all(Array.from({ length: threads }, () => readInThread(order)));
  // All begin together, within microseconds.
  const durationNs = Math.max(...times.map((time) => time.durationNs));
  return (bytes * threads * passes) / (durationNs / 1e9);
}

async function readInThread(order: ReadOrder): Promise<ReadTimes> {
  const worker = new Worker(new URL("./read-memory-thread.ts", import.meta.url), {
    workerData: order,
  });
  try {
    return await new Promise((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
  } finally {
    await worker.terminate();
  }
}

let compiled: Promise<Uint8Array<ArrayBuffer>> | undefined;

async function compile(): Promise<Uint8Array<ArrayBuffer>> {
  compiled ??= compileOnce();
  return compiled;
}

async function compileOnce(): Promise<Uint8Array<ArrayBuffer>> {
  let binary: Uint8Array<ArrayBuffer> | undefined;
  const { error, stderr } = await asc.main(
    [
      fileURLToPath(new URL("./read-memory.as.ts", import.meta.url)),
      ...["--outFile", "read-memory.wasm", "--optimizeLevel", "3", "--runtime", "stub"],
      ...["--enable", "simd", "--noAssert"],
    ],
    {
      writeFile(_, content) {
        binary = new Uint8Array(Buffer.from(content));
      },
    },
  );
  if (error !== null || binary === undefined) throw new Error(`asc: ${stderr.toString()}`);
  return binary;
}
