import { existsSync } from "node:fs";
import { join } from "node:path";
import { build } from "vite";
import type { TestProject } from "vitest/node";
import { buildProgram, evaluateStage, stopBuilding } from "./evaluate.ts";
import { PlatformUnavailable, preparePlatform, root } from "./platform.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Where the evaluations lie, by stage; or why they cannot be made here, or what was wrong in one. */
    stacks: { files: Record<string, string> } | { unavailable: string } | { failed: string };
  }
}

const fixtures = join(import.meta.dirname, "..", "fixtures");

/**
 * Evaluates each stage once, for all tests. Where SST's platform cannot be had, tests skip, unless the
 * stacks are what was asked for: `npm run test:stacks`.
 */
export async function setup(project: TestProject): Promise<void> {
  try {
    await preparePlatform();
  } catch (error) {
    if (!(error instanceof PlatformUnavailable) || process.env["AXON_STACKS"] === "required")
      throw error;
    console.warn(`The stacks are not tested. ${error.message}`);
    project.provide("stacks", { unavailable: error.message });
    return;
  }
  // What fails here fails the tests of the stacks, and no other.
  const evaluated = evaluate().then(
    (files) => ({ files }),
    (error: unknown) => ({ failed: error instanceof Error ? error.message : String(error) }),
  );
  project.provide("stacks", await evaluated);
}

/** @returns where the evaluations lie, by stage */
async function evaluate(): Promise<Record<string, string>> {
  // SST looks whether the page was built; its builder is one of the commands that nothing runs here.
  if (!existsSync(join(root, "web", "dist"))) {
    await build({ root: join(root, "web"), logLevel: "warn" });
  }
  const [program, blockProgram, reservationProgram] = await Promise.all([
    buildProgram(),
    buildProgram(join(fixtures, "capacity-block.config.ts")),
    buildProgram(join(fixtures, "reservation.config.ts")),
  ]);
  await stopBuilding();
  const [prod, personal, block, reserved] = await Promise.all([
    evaluateStage(program, "prod", { bundles: true }),
    evaluateStage(program, "ada", { bundles: false }),
    evaluateStage(blockProgram, "block", { bundles: false }),
    evaluateStage(reservationProgram, "reserved", { bundles: false }),
  ]);
  return { prod, ada: personal, block, reserved };
}
