// Runs before `npm start` and `npm test`, on any Node from version 20 on and before anything is
// installed: plain JavaScript without packages. It installs what is missing, says so in one line
// each, and is silent when nothing is.
//
//   node local/install.mjs start   packages, Redis, the built page
//   node local/install.mjs test    the same, and Chromium, without which browser tests are skipped

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const unpackedDir = join(root, ".axon", "packages");

/**
 * How a Debian package can be had here.
 * @param {{ onPath: boolean, unpacked: boolean, named: boolean, apt: boolean, root: boolean }} found
 * @returns {"present" | "install" | "unpack" | "impossible"}
 */
export function wayToPackage(found) {
  if (found.named || found.onPath || found.unpacked) return "present";
  if (!found.apt) return "impossible";
  return found.root ? "install" : "unpack";
}

/**
 * Whether node_modules is not what the lock file says. npm notes what it has installed in a lock file
 * of its own; optional packages, made for one platform each, may be in one of the two only.
 * @param {string} lockFile the content of package-lock.json
 * @param {string | undefined} installed the content of node_modules/.package-lock.json
 */
export function packagesAreStale(lockFile, installed) {
  if (installed === undefined) return true;
  /** @type {Record<string, { version?: string, integrity?: string, optional?: boolean }>} */
  const wanted = JSON.parse(lockFile).packages;
  /** @type {typeof wanted} */
  const found = JSON.parse(installed).packages;
  return [...new Set([...Object.keys(wanted), ...Object.keys(found)])].some((path) => {
    const [one, other] = [wanted[path], found[path]];
    // The first entry is the project itself.
    if (path === "") return false;
    if (one === undefined || other === undefined) return !(one ?? other)?.optional;
    return one.version !== other.version || one.integrity !== other.integrity;
  });
}

/**
 * Whether the built page is older than a source of it.
 * @param {number | undefined} builtAtMs undefined when there is none
 * @param {readonly number[]} sourcesAtMs
 */
export function pageIsStale(builtAtMs, sourcesAtMs) {
  return builtAtMs === undefined || sourcesAtMs.some((at) => at > builtAtMs);
}

/** @param {string} line */
const say = (line) => console.log(`install: ${line}`);

/** @param {string} path */
function read(path) {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

/** Ends with a message that says what to do. @param {string} message */
function fail(message) {
  console.error(`\n${message}`);
  process.exit(1);
}

/**
 * Runs a command; its output is shown only when it fails.
 * @param {string} file
 * @param {string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 * @returns {{ ok: boolean, output: string }}
 */
function run(file, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(file, args, {
    cwd: root,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
    ...options,
  });
  return {
    ok: status === 0,
    output: `${stdout ?? ""}${stderr ?? ""}${error?.message ?? ""}`.trim(),
  };
}

/** @param {string} output */
const ending = (output) => output.split("\n").slice(-15).join("\n");

function installPackages() {
  const lockFile = readFileSync(join(root, "package-lock.json"), "utf8");
  const installed = read(join(root, "node_modules", ".package-lock.json"));
  if (!packagesAreStale(lockFile, installed)) return;
  say("npm packages, by npm ci (a minute or so)");
  // `npm start` hands its own settings down; a caller's --omit or --dry-run is not meant for this.
  const flags = ["--include=dev", "--include=optional", "--ignore-scripts=false"];
  flags.push("--dry-run=false", "--global=false", "--no-audit", "--no-fund");
  let { ok, output } = run("npm", ["ci", ...flags]);
  // A registry that lacks the optional packages of other platforms makes `npm ci` say this; `npm
  // install` goes without them, and takes the versions of the lock file all the same.
  if (!ok && output.includes("EUSAGE")) {
    say("npm packages, by npm install: npm ci did not like the lock file");
    ({ ok, output } = run("npm", ["install", "--no-save", ...flags]));
  }
  if (ok) return;
  const errors = output.split("\n").filter((line) => /^npm error ./.test(line));
  fail(
    `The packages could not be installed. npm said:\n${errors.slice(0, 15).join("\n") || ending(output)}`,
  );
}

/** @param {readonly string[]} names */
function onPath(names) {
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.some((folder) => names.some((name) => existsSync(join(folder, name))));
}

/**
 * Brings a Debian package in the way that is open here.
 * @param {{ programs: string[], packages: string[], named: boolean }} wanted
 * @returns {string | undefined} why it could not be had
 */
function installDebianPackage({ programs, packages, named }) {
  const way = wayToPackage({
    named,
    onPath: onPath(programs),
    unpacked: programs.some((name) => existsSync(join(unpackedDir, "usr", "bin", name))),
    apt: onPath(["apt-get"]),
    root: process.getuid?.() === 0,
  });
  if (way === "present") return undefined;
  if (way === "impossible") return "there is no apt-get here";
  const [first] = packages;
  if (way === "install") {
    say(`${first}, by apt-get install`);
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    const install = () =>
      run("apt-get", ["install", "-y", "--no-install-recommends", ...packages], { env });
    let result = install();
    // A fresh container has no list of packages yet.
    if (!result.ok && run("apt-get", ["update"], { env }).ok) result = install();
    return result.ok ? undefined : ending(result.output);
  }
  say(`${first}, by apt-get download, unpacked under .axon/`);
  return unpack(packages);
}

/**
 * Without root: the packages and what they need, unpacked where they harm nobody.
 * @param {readonly string[]} packages
 */
function unpack(packages) {
  const downloads = join(unpackedDir, "downloads");
  mkdirSync(downloads, { recursive: true });
  const dependencies = run("apt-cache", [
    ...["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"],
    ...["--no-breaks", "--no-replaces", "--no-enhances", ...packages],
  ]);
  if (!dependencies.ok) return ending(dependencies.output);
  const names = dependencies.output.split("\n").filter((line) => /^[a-z0-9]/.test(line));
  // What every Debian has stays out: another libc than the system's own would not run.
  const needed = [...new Set(names)].filter(
    (name) => packages.includes(name) || !isInstalled(name),
  );
  const download = run("apt-get", ["download", ...needed], { cwd: downloads });
  if (!download.ok) return ending(download.output);
  for (const file of readdirSync(downloads).filter((name) => name.endsWith(".deb"))) {
    const { ok, output } = run("dpkg", ["-x", join(downloads, file), unpackedDir]);
    if (!ok) return ending(output);
  }
  return undefined;
}

/** @param {string} name */
function isInstalled(name) {
  const { ok, output } = run("dpkg-query", ["-W", "-f", "$" + "{Status}", name]);
  return ok && output.includes("install ok installed");
}

function installRedis() {
  const why = installDebianPackage({
    programs: ["redis-server", "valkey-server"],
    packages: ["redis-server", "redis-tools"],
    named: process.env.REDIS_URL !== undefined,
  });
  if (why === undefined) return;
  fail(`Axon needs Redis, and it could not be installed: ${why}

Ways out: install redis-server or valkey-server by hand (Debian: apt-get install redis-server; macOS:
brew install redis), or name a running one with REDIS_URL=redis://host:6379.`);
}

function installChromium() {
  const why = installDebianPackage({
    programs: ["chromium", "chromium-browser", "google-chrome"],
    packages: ["chromium"],
    named: process.env.AXON_CHROMIUM !== undefined,
  });
  if (why === undefined) return;
  say(`no Chromium, so the tests in a browser are skipped. AXON_CHROMIUM can name one. ${why}`);
}

/**
 * @param {string} folder
 * @returns {number[]} when each file was last changed, in ms
 */
function changesUnder(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (!entry.isDirectory()) return [statSync(path).mtimeMs];
    return ["dist", "node_modules"].includes(entry.name) ? [] : changesUnder(path);
  });
}

function buildPage() {
  const built = join(root, "web", "dist", "index.html");
  const builtAt = existsSync(built) ? statSync(built).mtimeMs : undefined;
  const shared = ["events/frames.ts", "events/socket-protocol.ts"].map((path) => join(root, path));
  const sources = [
    ...["web", "client"].flatMap((folder) => changesUnder(join(root, folder))),
    ...shared.map((path) => statSync(path).mtimeMs),
  ];
  if (!pageIsStale(builtAt, sources)) return;
  say("the page, by vite build");
  // Vite needs the pinned Node; its own first line would find the one of the system.
  const { ok, output } = run(join(root, "node_modules", "node", "bin", "node"), [
    ...[join(root, "node_modules", "vite", "bin", "vite.js"), "build", "web"],
    ...["--logLevel", "warn"],
  ]);
  if (!ok) fail(`The page could not be built:\n${ending(output)}`);
}

/** @param {string | undefined} purpose */
function main(purpose) {
  if (purpose !== "start" && purpose !== "test") {
    fail("Usage: node local/install.mjs start|test");
  }
  installPackages();
  installRedis();
  buildPage();
  if (purpose === "test") installChromium();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main(process.argv[2]);
