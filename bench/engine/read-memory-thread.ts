/*
 * One of the threads of read-bandwidth.ts: fills its memory, waits for the others, reads all of it
 * several times, and posts how long that took.
 */

import { parentPort, workerData } from "node:worker_threads";
import type { ReadOrder, ReadTimes } from "./read-bandwidth.ts";

const { module, bytes, passes, threads, arrivals } = workerData as ReadOrder;
const { exports } = new WebAssembly.Instance(module);
const memory = exports["memory"] as WebAssembly.Memory;
const readMemory = exports["readMemory"] as (start: number, end: number) => bigint;

memory.grow(Math.max(0, Math.ceil((bytes - memory.buffer.byteLength) / 65_536)));
new Uint8Array(memory.buffer).fill(1);
// The first pass is for the compiler.
readMemory(0, bytes);

Atomics.add(arrivals, 0, 1);
while (Atomics.load(arrivals, 0) < threads) {
  // A thread that slept here would begin later than the others.
}
const startedAt = process.hrtime.bigint();
let sum = 0n;
for (let pass = 0; pass < passes; pass += 1) sum += readMemory(0, bytes);
const durationNs = Number(process.hrtime.bigint() - startedAt);
parentPort?.postMessage({ durationNs, sum } satisfies ReadTimes);
