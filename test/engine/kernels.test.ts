import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { EngineError } from "../../dataplane/engine/engine-error.ts";
import type { Kernels, MatrixPart } from "../../dataplane/engine/kernels/kernels.ts";
import { ReferenceKernels } from "../../dataplane/engine/kernels/reference/reference-kernels.ts";
import { WasmKernels } from "../../dataplane/engine/kernels/wasm-kernels.ts";
import { PageLayout, pagePositions } from "../../dataplane/engine/model/page-layout.ts";
import { uniformAt } from "../../dataplane/engine/philox.ts";
import { relativeError } from "./accuracy.ts";
import { temporaryFolder } from "./tiny-checkpoint.ts";

const wasmFolder = resolve(import.meta.dirname, "../../dataplane/engine/kernels/wasm");

function random(length: number, seed: number, scale = 1): Float32Array {
  return new Float32Array(length).map((_, i) => (2 * uniformAt(seed, i) - 1) * scale);
}

/** The values in memory that the kernels can work on. */
function placed(kernels: Kernels, values: Float32Array): Float32Array {
  const memory = kernels.allocate(values.length);
  memory.set(values);
  return memory;
}

function part(weights: Float32Array, inputs: number): MatrixPart {
  const read = async (first: number, end: number) => weights.slice(first * inputs, end * inputs);
  return { outputs: weights.length / inputs, read };
}

test("the committed kernels are what their source gives", () => {
  const folder = temporaryFolder();
  execFileSync(process.execPath, [join(wasmFolder, "build.mjs"), folder]);
  for (const file of ["kernels.wasm", "kernels-pairs.wasm", "kernels-exact.wasm"]) {
    const committed = readFileSync(join(wasmFolder, file));
    expect(readFileSync(join(folder, file)).equals(committed), file).toBe(true);
  }
});

/** Of "relaxed" it depends on the machine whether its dot instruction adds exactly. */
const builds = (["relaxed", "pairs", "exact"] as const)
  .map((build) => [build, () => new WasmKernels(build)] as const)
  .filter(([build, create]) => {
    try {
      create();
      return true;
    } catch (error) {
      if (!(error instanceof EngineError) || build === "exact") throw error;
      console.warn(`The kernels "${build}" do not run on this machine: their tests are left out.`);
      return false;
    }
  });

test("the builds agree, but for how a product and a sum are rounded", async () => {
  const [outputs, inputs, rows] = [48, 96, 9];
  const results = builds.map(async ([, create]) => {
    const kernels = create();
    const weights = random(outputs * inputs, 11, 0.3);
    const matrix = await kernels.loadMatrix([part(weights, inputs)], inputs);
    const y = kernels.allocate(rows * outputs);
    matrix.multiply(placed(kernels, random(rows * inputs, 12, 4)), rows, y);
    return Float32Array.from(y);
  });
  const [first = new Float32Array(), ...others] = await Promise.all(results);
  expect(others.length).toBeGreaterThan(0);
  for (const other of others) expect(relativeError(other, first)).toBeLessThan(1e-6);
});

describe.each(builds)("int8 weights, %s SIMD", (build, create) => {
  const sizes: [outputs: number, inputs: number][] = [
    [16, 32],
    [48, 64],
    [80, 576],
    [5, 7],
    [33, 100],
  ];

  test("the build that was asked for", () => {
    expect(create().build).toBe(build);
  });

  test.each(sizes)("[%i, %i] times rows is the f32 product, nearly", async (outputs, inputs) => {
    const kernels = create();
    const weights = random(outputs * inputs, 1, 0.3);
    const x = random(7 * inputs, 2, 4);
    const matrix = await kernels.loadMatrix([part(weights, inputs)], inputs);
    const reference = await new ReferenceKernels().loadMatrix([part(weights, inputs)], inputs);
    const y = kernels.allocate(7 * outputs);
    const expected = new Float32Array(7 * outputs);
    matrix.multiply(placed(kernels, x), 7, y);
    reference.multiply(x, 7, expected);
    expect(relativeError(y, expected)).toBeLessThan(0.01);
    expect(relativeError(y, expected)).toBeGreaterThan(0);
  });

  test("a row's result does not depend on the rows beside it", async () => {
    const kernels = create();
    const [outputs, inputs] = [50, 96];
    const matrix = await kernels.loadMatrix([part(random(outputs * inputs, 3), inputs)], inputs);
    const x = random(8 * inputs, 4);
    const together = kernels.allocate(8 * outputs);
    matrix.multiply(placed(kernels, x), 8, together);
    const alone = kernels.allocate(outputs);
    for (let row = 0; row < 8; row += 1) {
      const own = placed(kernels, x.slice(row * inputs, (row + 1) * inputs));
      matrix.multiply(own, 1, alone);
      expect(alone).toEqual(together.slice(row * outputs, (row + 1) * outputs));
    }
  });

  test("parts are stacked, also where they begin within a panel", async () => {
    const kernels = create();
    const weights = random(40 * 64, 5);
    const parts = [part(weights.slice(0, 10 * 64), 64), part(weights.slice(10 * 64), 64)];
    const stacked = await kernels.loadMatrix(parts, 64);
    const whole = await kernels.loadMatrix([part(weights, 64)], 64);
    const [x, a, b] = [placed(kernels, random(64, 6)), kernels.allocate(40), kernels.allocate(40)];
    stacked.multiply(x, 1, a);
    whole.multiply(x, 1, b);
    expect(a).toEqual(b);
  });

  test("an output's weights are read back to within half a step of its scale", async () => {
    const kernels = create();
    const weights = random(20 * 50, 7);
    const matrix = await kernels.loadMatrix([part(weights, 50)], 50);
    const found = kernels.allocate(50);
    for (const output of [0, 3, 16, 19]) {
      matrix.readOutput(output, found);
      const expected = weights.subarray(output * 50, (output + 1) * 50);
      for (const [i, value] of found.entries()) {
        expect(Math.abs(value - (expected[i] ?? 0))).toBeLessThan(1 / 127 / 2 + 1e-4);
      }
    }
  });

  test("extreme and empty weights stay what they are", async () => {
    const kernels = create();
    const weights = Float32Array.of(...Array(32).fill(0), ...Array(32).fill(-3e30));
    const matrix = await kernels.loadMatrix([part(weights, 32)], 32);
    const y = kernels.allocate(2);
    matrix.multiply(placed(kernels, new Float32Array(32).fill(2)), 1, y);
    expect(y[0]).toBe(0);
    expect((y[1] ?? 0) / (-3e30 * 64)).toBeCloseTo(1, 2);
  });
});

describe.each(builds)("everything else in f32, %s SIMD", (_, create) => {
  const reference = new ReferenceKernels();

  test("RMS norm", () => {
    const kernels = create();
    const [x, weight] = [random(3 * 64, 1, 5), random(64, 2)];
    const y = kernels.allocate(3 * 64);
    const expected = new Float32Array(3 * 64);
    kernels.rmsNorm(placed(kernels, x), 3, placed(kernels, weight), 1e-5, y);
    reference.rmsNorm(x, 3, weight, 1e-5, expected);
    expect(relativeError(y, expected)).toBeLessThan(1e-6);
  });

  test("SwiGLU, for any size of its gate", () => {
    const kernels = create();
    const gateUp = random(2 * 2 * 64, 3, 200);
    const y = kernels.allocate(2 * 64);
    const expected = new Float32Array(2 * 64);
    kernels.swiglu(placed(kernels, gateUp), 2, 64, y);
    reference.swiglu(gateUp, 2, 64, expected);
    expect(relativeError(y, expected)).toBeLessThan(1e-6);
  });

  test("rotation leaves what is behind its heads alone", () => {
    const kernels = create();
    const rows = 3;
    const angles = { rows, cosines: random(rows * 4, 4), sines: random(rows * 4, 5) };
    const x = random(rows * 40, 6);
    const found = placed(kernels, x);
    const own = { ...angles, cosines: placed(kernels, angles.cosines) };
    kernels.rotate(found, 40, 3, { ...own, sines: placed(kernels, angles.sines) });
    reference.rotate(x, 40, 3, angles);
    expect(relativeError(found, x)).toBeLessThan(1e-6);
  });

  test("the largest, and the mass, of any count", () => {
    const kernels = create();
    for (const length of [1, 4, 7, 100]) {
      const values = random(length, length, 9);
      const own = placed(kernels, values);
      const most = reference.largest(values);
      expect(kernels.largest(own)).toBe(most);
      const mass = reference.mass(values, most, 0.7);
      expect(kernels.mass(own, most, 0.7) / mass).toBeCloseTo(1, 5);
    }
    expect(kernels.largest(placed(kernels, Float32Array.of(1, Number.NaN, 2, 3)))).toBeNaN();
  });
});

describe.each(builds)("attention over pages, %s SIMD", (_, create) => {
  const shape = { layers: 2, keyValueHeads: 2, headSize: 24 };
  const heads = [0, 0, 0, 1, 1];
  const stride = (heads.length + 2 * shape.keyValueHeads) * shape.headSize;
  const width = heads.length * shape.headSize;
  const layout = new PageLayout(shape);

  /** Rows of a sequence, chunk by chunk, with pages in any order. */
  function run(kernels: Kernels, rows: Float32Array, cuts: number[], pages: number[]) {
    const count = rows.length / stride;
    const attention = kernels.createAttention(layout, heads, 10);
    const own = placed(kernels, rows);
    const output = kernels.allocate(count * width);
    let start = 0;
    for (const end of [...cuts, count]) {
      const chunk = { firstRow: start, rows: end - start, start, pages };
      attention.store(1, chunk, own);
      attention.attend(1, chunk, own, output);
      start = end;
    }
    return output;
  }

  test("is the reference's, on several pages", () => {
    const rows = random(75 * stride, 1, 2);
    expect(pagePositions).toBeLessThan(75);
    const expected = run(new ReferenceKernels(), rows, [], [0, 1, 2]);
    expect(relativeError(run(create(), rows, [], [0, 1, 2]), expected)).toBeLessThan(1e-5);
  });

  test("does not depend, to the last bit, on chunks nor on pages", () => {
    const rows = random(75 * stride, 2, 2);
    const whole = run(create(), rows, [], [0, 1, 2]);
    expect(run(create(), rows, [1, 2, 33, 64, 70], [7, 0, 4])).toEqual(whole);
    expect(
      run(
        create(),
        rows,
        Array.from({ length: 74 }, (_, i) => i + 1),
        [2, 9, 5],
      ),
    ).toEqual(whole);
  });

  test("does not see what other sequences left in a page", () => {
    const kernels = create();
    const attention = kernels.createAttention(layout, heads, 1);
    const rows = random(5 * stride, 3, 2);
    const output = kernels.allocate(32 * width);
    const full = placed(kernels, random(32 * stride, 4, 1e20));
    attention.store(1, { firstRow: 0, rows: 32, start: 0, pages: [0] }, full);
    const chunk = { firstRow: 0, rows: 5, start: 0, pages: [0] };
    const own = placed(kernels, rows);
    attention.store(1, chunk, own);
    attention.attend(1, chunk, own, output);
    expect(output.slice(0, 5 * width)).toEqual(run(create(), rows, [], [0]));
  });
});
