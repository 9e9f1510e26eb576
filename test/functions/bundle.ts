import { readdirSync } from "node:fs";
import { join } from "node:path";
import { type BuildOptions, build } from "esbuild";
import { externals } from "../../cluster/bundling.ts";

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

const options = {
  outExtension: { ".js": ".mjs" },
  absWorkingDir: root,
  metafile: true,
  bundle: true,
  platform: "node",
  format: "esm",
  target: "esnext",
  mainFields: ["module", "main"],
  minify: true,
  keepNames: true,
  sourcemap: "linked",
  banner: { js: banner },
  logLevel: "error",
} satisfies BuildOptions;
const external = ["sharp", "pg-native", ...externals];

/** What a function loads only where it is asked for, by `import()`: SST makes a file of its own of it. */
const loadedLater = ["./events/tracing/start-tracing.ts", "pg"];

/**
 * Bundles functions into a folder as SST does, minified and with source maps; each file is named after its
 * function. Options: sst 4.17.1, pkg/runtime/node/build.go. SST bundles each function by itself and splits
 * it; to do all of them in one go takes half the time, and leaves out what is loaded later.
 * @returns by function, the bytes of its bundle, how many come from each package (or the project), and what it may load later.
 */
export async function bundle(
  names: readonly string[],
  folder: string,
): Promise<Map<string, Bundle>> {
  const { metafile } = await build({
    ...options,
    entryPoints: Object.fromEntries(
      names.map((name) => [name, join(root, "functions", `${name}.ts`)]),
    ),
    ...{ outdir: folder, external: [...external, ...loadedLater] },
  });
  const bundles = new Map<string, Bundle>();
  for (const [file, { bytes, inputs, imports }] of Object.entries(metafile.outputs)) {
    const name = /([^/]+)\.mjs$/.exec(file)?.[1];
    if (name === undefined) continue;
    const later = imports.filter(({ kind }) => kind === "dynamic-import").map(({ path }) => path);
    bundles.set(name, { bytes, from: bySource([inputs]), later });
  }
  return bundles;
}

interface Bundle {
  bytes: number;
  from: Map<string, number>;
  later: string[];
}

/**
 * Bundles one function just as SST does: what it loads later is in files beside it.
 * @returns the bytes that are loaded when it starts, and those of each package that are loaded later.
 */
export async function bundleAlone(
  name: string,
  folder: string,
): Promise<{ bytes: number; later: Map<string, number> }> {
  const { metafile } = await build({
    ...options,
    entryPoints: { [name]: join(root, "functions", `${name}.ts`) },
    ...{ outdir: folder, external, splitting: true },
  });
  const { outputs } = metafile;
  const loaded = new Set(Object.keys(outputs).filter((file) => file.endsWith(`/${name}.mjs`)));
  for (const file of loaded) {
    for (const { path, kind } of outputs[file]?.imports ?? []) {
      if (kind === "import-statement" && path in outputs) loaded.add(path);
    }
  }
  const later = Object.keys(outputs).filter((file) => !loaded.has(file));
  return {
    bytes: [...loaded].reduce((sum, file) => sum + (outputs[file]?.bytes ?? 0), 0),
    later: bySource(later.map((file) => outputs[file]?.inputs ?? {})),
  };
}

/** Bytes by the package that they come from, or "axon". */
function bySource(outputs: readonly Record<string, { bytesInOutput: number }>[]) {
  const from = new Map<string, number>();
  for (const [path, { bytesInOutput }] of outputs.flatMap((inputs) => Object.entries(inputs))) {
    const source = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? "axon";
    from.set(source, (from.get(source) ?? 0) + bytesInOutput);
  }
  return from;
}
