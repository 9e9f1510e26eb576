import { defineConfig } from "vitest/config";

/** Tests that start the whole stage: several processes each, so they run one after the other. */
const stageTests = ["test/stage/**/*.test.ts", "test/**/*.stage.test.ts"];
/** Tests that evaluate sst.config.ts: they need SST's platform, and nothing that runs. */
const stackTests = "test/stacks/**/*.test.ts";

export default defineConfig({
  test: {
    expect: { poll: { timeout: 10_000 } },
    testTimeout: 30_000,
    hookTimeout: 60_000,
    projects: [
      {
        extends: true,
        test: {
          name: "parts",
          include: ["test/**/*.test.ts"],
          exclude: [...stageTests, stackTests],
          globalSetup: "test/support/global-setup.ts",
          sequence: { groupOrder: 0 },
          maxWorkers: 2,
        },
      },
      {
        extends: true,
        test: {
          name: "stacks",
          include: [stackTests],
          globalSetup: "test/stacks/harness/global-setup.ts",
          sequence: { groupOrder: 1 },
          maxWorkers: 1,
        },
      },
      {
        extends: true,
        test: {
          name: "stage",
          include: stageTests,
          testTimeout: 120_000,
          sequence: { groupOrder: 2 },
          maxWorkers: 2,
        },
      },
    ],
  },
});
