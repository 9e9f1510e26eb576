// Compiles the kernels: node dataplane/engine/kernels/wasm/build.mjs [FOLDER]
//
// Without optimizations: the compiler's would reorder the hot loops, which are written in the order
// in which they are to run. V8 does the rest when it loads them.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import asc from "assemblyscript/asc";

const here = dirname(fileURLToPath(import.meta.url));
const folder = process.argv[2] ?? here;

const builds = [
  { file: "kernels.wasm", entry: "kernels.as.ts", exactArithmetic: 0 },
  { file: "kernels-pairs.wasm", entry: "kernels-pairs.as.ts", exactArithmetic: 0 },
  { file: "kernels-exact.wasm", entry: "kernels.as.ts", exactArithmetic: 1 },
];

for (const { file, entry, exactArithmetic } of builds) {
  const { error, stderr } = await asc.main([
    join(here, entry),
    ...["--outFile", join(folder, file)],
    ...["--runtime", "stub", "--optimizeLevel", "0", "--noAssert"],
    ...["--enable", "simd,relaxed-simd,threads,bulk-memory"],
    ...["--importMemory", "--sharedMemory", "--initialMemory", "1", "--maximumMemory", "65536"],
    ...["--use", `exactArithmetic=${exactArithmetic}`],
  ]);
  if (error === null) continue;
  console.error(stderr.toString());
  process.exit(1);
}
