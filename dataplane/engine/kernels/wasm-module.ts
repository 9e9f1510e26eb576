/**
 * The compiled kernels of wasm/, and which of their builds this machine runs:
 *
 *   "relaxed"  where the dot instruction of relaxed SIMD adds four products of any bytes exactly
 *   "pairs"    where it adds them in pairs, into 16 bits, which is exact for activations of 7 bits
 *   "exact"    where there is no relaxed SIMD
 */

import { readFileSync } from "node:fs";
import { EngineError } from "../engine-error.ts";
import type { WasmMemory } from "./wasm-memory.ts";

type Kernel = (...args: number[]) => void;

/** The functions of wasm/kernels.as.ts, which tells their arguments. Addresses are in bytes. */
export interface KernelExports {
  multiplyRow: Kernel;
  multiplyRows: Kernel;
  quantizeRows: Kernel;
  packPanel: Kernel;
  unpackOutput: Kernel;
  storeKeyValue: Kernel;
  attend: Kernel;
  rmsNorm: Kernel;
  rotate: Kernel;
  swiglu: Kernel;
  add: Kernel;
  probeDot: Kernel;
  largest(x: number, count: number): number;
  mass(x: number, count: number, most: number, inverseTemperature: number): number;
}

export interface KernelModule {
  exports: KernelExports;
  build: "relaxed" | "pairs" | "exact";
  /** What is added to stored weights, so that the dot instruction reads them rightly. */
  weightOffset: 0 | 128;
  /** What a quantized activation takes: a number, or its magnitude and its sign. */
  activationBytes: 1 | 2;
}

export type KernelBuild = KernelModule["build"];

const files = {
  relaxed: "kernels.wasm",
  pairs: "kernels-pairs.wasm",
  exact: "kernels-exact.wasm",
} as const satisfies Record<KernelBuild, string>;

const fastestFirst = ["relaxed", "pairs", "exact"] as const;

/**
 * The fastest build, or the one that is asked for. Throws EngineError "unsupported_machine" when it
 * cannot run here.
 */
export function instantiateKernels(memory: WasmMemory, build?: KernelBuild): KernelModule {
  const builds = build === undefined ? fastestFirst : [build];
  for (const candidate of builds) {
    const exports = instantiate(files[candidate], memory.memory);
    if (exports === undefined) continue;
    const weightOffset = candidate === "relaxed" ? probeOffset(exports, memory) : 0;
    if (weightOffset === undefined) continue;
    const activationBytes = candidate === "pairs" ? 2 : 1;
    return { exports, build: candidate, weightOffset, activationBytes };
  }
  throw new EngineError(
    "unsupported_machine",
    "This machine's WebAssembly lacks the vector instructions that int8 weights need; use f32.",
  );
}

/**
 * sum += values over `count` floats, a multiple of 4, at addresses of a shared memory. Undefined where
 * WebAssembly has no SIMD.
 */
export function instantiateAdd(memory: WebAssembly.Memory): KernelExports["add"] | undefined {
  return instantiate(files.exact, memory)?.add;
}

/** Undefined where the build has instructions that are not known here. */
function instantiate(file: string, memory: WebAssembly.Memory): KernelExports | undefined {
  const bytes = readFileSync(new URL(`./wasm/${file}`, import.meta.url));
  if (!WebAssembly.validate(bytes)) return undefined;
  const abort = () => {
    throw new EngineError("internal", "A kernel aborted.");
  };
  const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), {
    env: { memory, abort },
  });
  // What is compiled is what wasm/ has the source of; a test compares the two.
  return instance.exports as unknown as KernelExports;
}

/**
 * The relaxed dot instruction may take bytes of its second operand above 127 for negative numbers,
 * for positive ones, or lose what exceeds 16 bits on the way (WebAssembly relaxed SIMD,
 * "relaxed integer dot product"). Returns the offset under which it is exact, if there is one.
 */
function probeOffset(exports: KernelExports, memory: WasmMemory): 0 | 128 | undefined {
  const address = memory.allocate(48);
  const x = new Int8Array(memory.memory.buffer, address, 16);
  const w = new Uint8Array(memory.memory.buffer, address + 16, 16);
  const sums = new Int32Array(memory.memory.buffer, address + 32, 4);
  x.set([127, 127, 127, 127, -127, -127, -127, -127, 127, -127, 127, -127, 1, 2, 3, 4]);
  w.set([255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 128, 200, 129, 130, 254, 127]);
  exports.probeDot(address, address + 16, address + 32);
  const dot = (weights: ArrayLike<number>, lane: number) => {
    const products = [0, 1, 2, 3].map((i) => {
      return (x[4 * lane + i] as number) * (weights[4 * lane + i] as number);
    });
    return products.reduce((sum, product) => sum + product, 0);
  };
  if (sums.every((sum, lane) => sum === dot(w, lane))) return 128;
  const signed = new Int8Array(w);
  return sums.every((sum, lane) => sum === dot(signed, lane)) ? 0 : undefined;
}
