import { mkdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, join } from "node:path";

export interface Bundle {
  functionId: string;
  /** As axon's stacks name it: functions/chat.handler. */
  source: string;
  handler: string;
  folder: string;
  /** Of the module and what it imports as it starts, without source maps. */
  bytes: number;
}

interface Folders {
  root: string;
  folder: string;
}

interface BuildRequest {
  functionID: string;
  handler: string;
  properties: {
    minify?: boolean;
    sourcemap?: boolean;
    splitting?: boolean;
    esbuild?: { external?: string[] };
  };
}

/** What SST puts before a module: CommonJS packages in it ask for these. */
const banner = [
  `import { createRequire as topLevelCreateRequire } from 'module';`,
  "const require = topLevelCreateRequire(import.meta.url);",
  `import { fileURLToPath as topLevelFileUrlToPath, URL as topLevelURL } from "url"`,
  "const __filename = topLevelFileUrlToPath(import.meta.url)",
  `const __dirname = topLevelFileUrlToPath(new topLevelURL(".", import.meta.url))`,
].join("\n");

/**
 * Builds a function's bundle as the `sst` command does, by the esbuild that SST's platform brings, from
 * what the stacks ask of it. Options: sst, pkg/runtime/node/build.go.
 * @throws esbuild's errors, when the handler does not build
 */
export async function bundleFunction(request: unknown, { root, folder }: Folders): Promise<Bundle> {
  const { functionID, handler, properties } = request as BuildRequest;
  const [file = "", exported = ""] = handler.split(/\.(?=[^.]+$)/);
  const out = join(folder, functionID);
  await mkdir(out, { recursive: true });
  const outfile = join(out, `${basename(file)}.mjs`);
  const { minify = false, sourcemap = false, splitting = false, esbuild = {} } = properties;
  const { build } = createRequire(join(root, ".sst", "platform", "package.json"))("esbuild");
  const { metafile } = await build({
    metafile: true,
    ...{ entryPoints: [join(root, `${file}.ts`)], bundle: true, logLevel: "silent" },
    ...(splitting ? { splitting, outdir: out, outExtension: { ".js": ".mjs" } } : { outfile }),
    ...{ platform: "node", format: "esm", target: "esnext", mainFields: ["module", "main"] },
    ...{ keepNames: true, minify, sourcemap: sourcemap ? "linked" : false, banner: { js: banner } },
    external: ["sharp", "pg-native", ...(esbuild.external ?? [])],
  });
  const size = loadedBytes(metafile.outputs, basename(outfile));
  return {
    ...{ functionId: functionID, source: handler, folder: out, bytes: size },
    handler: `${basename(file)}.${exported}`,
  };
}

interface Output {
  bytes: number;
  imports: { path: string; kind: string }[];
}

/** The bytes of a module and of the chunks that it imports, but for those that are imported later. */
function loadedBytes(outputs: Record<string, Output>, name: string): number {
  const loaded = new Set(Object.keys(outputs).filter((file) => basename(file) === name));
  for (const file of loaded) {
    for (const { path, kind } of outputs[file]?.imports ?? []) {
      if (kind === "import-statement" && path in outputs) loaded.add(path);
    }
  }
  return [...loaded].reduce((sum, file) => sum + (outputs[file]?.bytes ?? 0), 0);
}

/** An empty bundle, where only what surrounds it is asked for. */
export async function skipFunction(request: unknown, { folder }: Folders): Promise<Bundle> {
  const { functionID, handler } = request as BuildRequest;
  const out = join(folder, functionID);
  await mkdir(out, { recursive: true });
  return {
    ...{ functionId: functionID, source: handler, folder: out, bytes: 0 },
    handler: basename(handler),
  };
}
