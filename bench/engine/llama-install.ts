import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

/*
 * llama.cpp, in the two forms in which the bench measures it: node-llama-cpp, and the libraries
 * that come with it. They are put below .axon/ and never become packages of the project.
 */

const version = "3.22.1";

/** Which package has the libraries that compute on the CPU of a machine. */
const platformPackages: Record<string, string> = {
  "linux-x64": "linux-x64",
  "linux-arm64": "linux-arm64",
  "darwin-arm64": "mac-arm64-metal",
  "darwin-x64": "mac-x64",
  "win32-x64": "win-x64",
};

export interface LlamaInstall {
  version: string;
  /** The release of llama.cpp that it was built from. */
  release: string;
  packageDir: string;
  librariesDir: string;
}

/** What went wrong on the way to a peer, which is then not measured. */
export class NotMeasured extends Error {}

/** Installs node-llama-cpp below `benchDir`, if need be. Throws NotMeasured. */
export function installNodeLlama(benchDir: string): LlamaInstall {
  const platform = platformPackages[`${process.platform}-${process.arch}`];
  if (platform === undefined) {
    throw new NotMeasured(`node-llama-cpp has nothing for ${process.platform} ${process.arch}`);
  }
  const folder = join(benchDir, `node-llama-cpp-${version}`);
  const packageDir = join(folder, "node_modules", "node-llama-cpp");
  const platformDir = join(folder, "node_modules", "@node-llama-cpp", platform);
  // npm writes this file when all packages are in their places.
  if (!existsSync(join(folder, "node_modules", ".package-lock.json"))) {
    console.error(`Installing node-llama-cpp ${version} in ${folder}`);
    mkdirSync(folder, { recursive: true });
    // Without what is for graphics cards, which is ten times as large.
    const packages = [`node-llama-cpp@${version}`, `@node-llama-cpp/${platform}@${version}`];
    const flags = ["--ignore-scripts", "--omit=optional", "--no-audit", "--loglevel=error"];
    run("npm", ["install", "--prefix", folder, ...flags, ...packages]);
  }
  const infoPath = join(packageDir, "llama", "llama.cpp.info.json");
  const { tag } = z.object({ tag: z.string() }).parse(JSON.parse(readFileSync(infoPath, "utf8")));
  return { version, release: tag, packageDir, librariesDir: join(platformDir, "bins", platform) };
}

/** Compiles the peer that drives the libraries directly. Returns its path. Throws NotMeasured. */
export function buildLlamaPeer(install: LlamaInstall, benchDir: string): string {
  if (process.platform !== "linux") throw new NotMeasured("it is compiled on Linux only");
  const headersDir = unpackHeaders(install, benchDir);
  const { librariesDir } = install;
  const files = readdirSync(librariesDir);
  const links = [/^libllama\.(v[\d.]+)?so/, /^libggml\.(v[\d.]+)?so/, /^libggml-base\.so/].map(
    (pattern) => {
      const file = files.find((name) => pattern.test(name));
      if (file !== undefined) return `-l:${file}`;
      throw new NotMeasured(`${librariesDir} has no ${pattern}`);
    },
  );
  const target = join(benchDir, `llama-peer-${install.release}`);
  return compile("llama-peer.cpp", target, [
    ...["-O2", `-I${headersDir}`, `-L${librariesDir}`],
    ...links,
    `-Wl,-rpath,${librariesDir}`,
  ]);
}

/** Compiles the measurement of the memory's bandwidth. Returns its path. Throws NotMeasured. */
export function buildReadBandwidth(benchDir: string): string {
  const target = join(benchDir, "read-bandwidth");
  return compile("read-bandwidth.cpp", target, ["-O3", "-march=native", "-pthread"]);
}

/** The package has the sources of its release as a bundle of git; no other headers would fit. */
function unpackHeaders({ packageDir, release }: LlamaInstall, benchDir: string): string {
  const folder = join(benchDir, `llama.cpp-${release}-headers`);
  if (existsSync(join(folder, "llama.h"))) return folder;
  const bundle = join(packageDir, "llama", "gitRelease.bundle");
  if (!existsSync(bundle)) throw new NotMeasured(`there are no headers: no ${bundle}`);
  const repository = join(benchDir, "llama.cpp.git");
  const archive = join(benchDir, "llama.cpp-headers.tar");
  const git = (...args: string[]) => run("git", ["--git-dir", repository, ...args]);
  run("git", ["init", "--quiet", "--bare", repository]);
  git("fetch", "--quiet", bundle, "HEAD");
  git("archive", "--output", archive, "FETCH_HEAD", "include", "ggml/include");
  const unpacked = join(benchDir, "llama.cpp-headers.part");
  mkdirSync(unpacked, { recursive: true });
  run("tar", ["-xf", archive, "-C", unpacked]);
  mkdirSync(folder, { recursive: true });
  for (const headers of ["ggml/include", "include"]) {
    run("cp", ["-R", `${join(unpacked, headers)}/.`, folder]);
  }
  for (const path of [repository, archive, unpacked]) rmSync(path, { recursive: true });
  return folder;
}

function compile(file: string, target: string, flags: readonly string[]): string {
  const source = join(import.meta.dirname, file);
  if (existsSync(target) && statSync(target).mtimeMs > statSync(source).mtimeMs) return target;
  console.error(`Compiling ${file}`);
  const compiler = process.env["CXX"] ?? "g++";
  run(compiler, ["-std=c++17", "-Wall", "-Wextra", source, "-o", target, ...flags]);
  return target;
}

function run(file: string, args: readonly string[]): void {
  const { status, error, stderr } = spawnSync(file, args, { encoding: "utf8" });
  if (status === 0) return;
  const why = error?.message ?? stderr.trim().split("\n").slice(0, 3).join(" ");
  throw new NotMeasured(`${file} failed: ${why}`);
}
