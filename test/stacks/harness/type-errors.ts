import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { root } from "./platform.ts";

/**
 * What the compiler finds wrong in the stacks. SST's types are its sources, which are written by gentler
 * rules than ours: what it finds there is not reported.
 */
export async function typeErrors(): Promise<string[]> {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const args = [tsc, "--pretty", "false", "-p", "stacks/tsconfig.json"];
  const output = await promisify(execFile)(process.execPath, args, {
    ...{ cwd: root, maxBuffer: 64 * 1024 * 1024 },
  }).then(
    ({ stdout }) => stdout,
    (error: { stdout?: string }) => {
      if (error.stdout?.includes("error TS") !== true) throw error;
      return error.stdout;
    },
  );
  const lines = output.split("\n").filter((line) => /^\S.*: error TS\d+/.test(line));
  return lines.filter((line) => !line.startsWith(".sst/"));
}
