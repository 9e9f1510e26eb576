import { execFile } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { platformFolder, root } from "./platform.ts";

const run = promisify(execFile);
const results = join(root, "node_modules", ".cache", "axon-stacks");

/**
 * Bundles program.ts into the platform, whose packages it uses.
 * @param config the file that stands for axon.config.ts
 * @returns what to run
 */
export async function buildProgram(config = join(root, "axon.config.ts")): Promise<string> {
  const { build } = platformEsbuild();
  const outfile = join(platformFolder, `evaluate-${basename(config, ".ts")}.mjs`);
  await build({
    ...{ entryPoints: [join(import.meta.dirname, "program.ts")], outfile, absWorkingDir: root },
    ...{ bundle: true, platform: "node", format: "esm", target: "node22", sourcemap: "inline" },
    // Packages are found in the platform, or above it in those of the project.
    packages: "external",
    plugins: [
      {
        name: "deployment",
        setup(plugin: EsbuildPlugin) {
          // A configuration may build on the project's own.
          plugin.onResolve({ filter: /axon\.config\.ts$/ }, ({ importer }) =>
            importer.endsWith("sst.config.ts") ? { path: config } : undefined,
          );
        },
      },
    ],
    ...{ logLevel: "error", banner: { js: requireBanner } },
  });
  return outfile;
}

const platformEsbuild = () => createRequire(join(platformFolder, "package.json"))("esbuild");

/** Ends the process that esbuild leaves running for the next build. */
export const stopBuilding = (): Promise<void> => platformEsbuild().stop();

interface EsbuildPlugin {
  onResolve(
    options: { filter: RegExp },
    resolve: (from: { importer: string }) => { path: string } | undefined,
  ): void;
}

const requireBanner = [
  `import { createRequire as ownRequire } from "node:module";`,
  `import { dirname as ownDirname } from "node:path";`,
  "const require = ownRequire(import.meta.url);",
  "const __filename = import.meta.filename;",
  "const __dirname = ownDirname(__filename);",
].join("\n");

/**
 * @returns the file with the Evaluation
 * @throws Error with what the program said, where a stack cannot be evaluated
 */
export async function evaluateStage(
  program: string,
  stage: string,
  { bundles }: { bundles: boolean },
): Promise<string> {
  await mkdir(results, { recursive: true });
  const resultFile = join(results, `${stage}.json`);
  const env = { ...process.env, AXON_STAGE: stage, AXON_RESULT: resultFile };
  if (bundles) Object.assign(env, { AXON_BUNDLE: "1" });
  await run(process.execPath, ["--enable-source-maps", program], {
    ...{ cwd: root, env, timeout: 300_000, maxBuffer: 64 * 1024 * 1024 },
  });
  return resultFile;
}
