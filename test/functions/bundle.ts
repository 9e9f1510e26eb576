import { readdirSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { runtimePackages } from "../../cluster/bundling.ts";

const root = join(import.meta.dirname, "..", "..");

/** Every function that there is, by its file. */
export const functionNames = readdirSync(join(root, "functions"))
  .filter((name) => name.endsWith(".ts"))
  .map((name) => name.slice(0, -".ts".length));

/** What SST puts before a module: CommonJS packages in it ask for these. */
const banner = `
import { createRequire as topLevelCreateRequire } from "module";
const require = topLevelCreateRequire(import.meta.url);
import { fileURLToPath as topLevelFileUrlToPath, URL as topLevelURL } from "url";
const __filename = topLevelFileUrlToPath(import.meta.url);
const __dirname = topLevelFileUrlToPath(new topLevelURL(".", import.meta.url));
`;

/**
 * Bundles functions into a folder as SST does, minified and with source maps; each file is named after its
 * function. Options: sst 4.17.1, pkg/runtime/node/build.go.
 * @returns by function, the bytes of its bundle, and how many come from each package (or the project).
 */
export async function bundle(
  names: readonly string[],
  folder: string,
): Promise<Map<string, { bytes: number; from: Map<string, number> }>> {
  const { metafile } = await build({
    entryPoints: Object.fromEntries(
      names.map((name) => [name, join(root, "functions", `${name}.ts`)]),
    ),
    ...{ outdir: folder, outExtension: { ".js": ".mjs" }, absWorkingDir: root, metafile: true },
    ...{ bundle: true, platform: "node", format: "esm", target: "esnext" },
    ...{ mainFields: ["module", "main"], external: ["sharp", "pg-native", ...runtimePackages] },
    ...{ minify: true, keepNames: true, sourcemap: "linked", banner: { js: banner } },
    logLevel: "error",
  });
  const bundles = new Map<string, { bytes: number; from: Map<string, number> }>();
  for (const [file, { bytes, inputs }] of Object.entries(metafile.outputs)) {
    const name = /([^/]+)\.mjs$/.exec(file)?.[1];
    if (name === undefined) continue;
    const from = new Map<string, number>();
    for (const [path, { bytesInOutput }] of Object.entries(inputs)) {
      const source = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? "axon";
      from.set(source, (from.get(source) ?? 0) + bytesInOutput);
    }
    bundles.set(name, { bytes, from });
  }
  return bundles;
}
