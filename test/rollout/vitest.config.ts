import { join } from "node:path";
import { defineConfig } from "vitest/config";

/** Kills at every step of a rollout: `npm run test:rollout`, never a part of `npm test`. */
export default defineConfig({
  root: join(import.meta.dirname, "../.."),
  test: {
    include: ["test/rollout/*.kills.ts"],
    testTimeout: 600_000,
    hookTimeout: 90_000,
    maxWorkers: 1,
    fileParallelism: false,
  },
});
