import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

export const root = resolve(import.meta.dirname, "..", "..", "..");
export const platformFolder = join(root, ".sst", "platform");
const cache = join(root, "node_modules", ".cache", "axon-sst");

/** SST's platform cannot be had: there is no network, or this is a system that nobody has prepared for. */
export class PlatformUnavailable extends Error {
  override readonly name = "PlatformUnavailable";
}

/** What `sst install` of this version looks for in its home; it would fetch them by itself otherwise. */
const bunVersion = "1.2.1";
const pulumiVersion = "v3.215.0";
const bunPackages: Record<string, string> = {
  "linux-x64": "@oven/bun-linux-x64",
  "linux-arm64": "@oven/bun-linux-aarch64",
};

/**
 * Lays SST's platform (its components and their Pulumi packages) under .sst/platform, unless it is there,
 * from packages of npm alone: nothing is deployed here, so Pulumi itself is not needed, and bun, which
 * SST installs packages with, is on npm too. SST's home is one of our own; yours stays as it is.
 * @throws PlatformUnavailable
 */
export async function preparePlatform(): Promise<void> {
  if (await isReady()) return;
  const bunPackage = bunPackages[`${process.platform}-${process.arch}`];
  if (bunPackage === undefined) {
    throw new PlatformUnavailable("Run `npx sst install` first: on this system it must be asked.");
  }
  const home = join(cache, "home");
  const binaries = join(home, ".config", "sst", "bin");
  await mkdir(binaries, { recursive: true });
  await installBun(bunPackage, join(binaries, "bun"));
  await writeFile(join(binaries, "pulumi"), `#!/bin/sh\necho ${pulumiVersion}\n`);
  await chmod(join(binaries, "pulumi"), 0o755);
  const env = { ...process.env, HOME: home, SST_TELEMETRY_DISABLED: "1", DO_NOT_TRACK: "1" };
  await attempt(process.execPath, [sstCommand(), "install", "--stage", "test"], env);
  if (!(await isReady())) throw new PlatformUnavailable("`sst install` left no platform behind.");
}

const sstCommand = () => join(root, "node_modules", "sst", "bin", "sst.mjs");

async function isReady(): Promise<boolean> {
  const manifest = await readFile(join(root, "node_modules", "sst", "package.json"), "utf8");
  const wanted = JSON.parse(manifest) as { version: string };
  const version = await readFile(join(platformFolder, "version"), "utf8").catch(() => "");
  return (
    version === wanted.version &&
    existsSync(join(platformFolder, "node_modules/@pulumi/kubernetes"))
  );
}

async function installBun(name: string, target: string): Promise<void> {
  if (existsSync(target)) return;
  const folder = join(cache, "bun");
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "package.json"), "{}");
  const options = ["--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
  await attempt("npm", ["install", ...options, "--prefix", folder, `${name}@${bunVersion}`]);
  await copyFile(join(folder, "node_modules", name, "bin", "bun"), target);
  await chmod(target, 0o755);
}

async function attempt(command: string, args: string[], env = process.env): Promise<void> {
  try {
    await run(command, args, { cwd: root, env, timeout: 300_000 });
  } catch (cause) {
    const lines = String((cause as { stderr?: string }).stderr ?? "").split("\n");
    const said = lines.find((line) => /error/i.test(line)) ?? String(cause);
    throw new PlatformUnavailable(`SST's platform cannot be prepared: ${said}`, {
      cause,
    });
  }
}
