import { join } from "node:path";
import { defineConfig } from "vitest/config";

/** The tests on the real vLLM: `npm run test:vllm`, never a part of `npm test`. */
export default defineConfig({
  root: join(import.meta.dirname, "../.."),
  test: {
    include: ["test/vllm/*.vllm.ts"],
    expect: { poll: { timeout: 10_000 } },
    testTimeout: 240_000,
    // One server at a time: it takes all there is.
    maxWorkers: 1,
    fileParallelism: false,
  },
});
