import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    root: new URL("../..", import.meta.url).pathname,
    include: ["test/moto/*.suite.ts"],
    globalSetup: "test/support/global-setup.ts",
    testTimeout: 60_000,
    // The first run installs moto.
    hookTimeout: 300_000,
  },
});
