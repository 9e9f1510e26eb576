/**
 * Leaves in a package.json only what the processes of the data plane import: run in the image's build,
 * before `npm prune`. Packages of the page, of the local stage and of the functions stay out of the image.
 *
 *     node dependencies.mjs FOLDER    the folder with package.json, dataplane/ and events/
 */
import { readFileSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";

/** What a container may be told to run, and what those start as threads and processes. */
const programs = [
  "dataplane/worker.ts",
  "dataplane/relay.ts",
  "dataplane/follower.ts",
  "dataplane/fetch-model.ts",
  "dataplane/engine/rank.ts",
  "dataplane/engine/rank-thread.ts",
  "dataplane/engine/rank-zero.ts",
];

const importPattern =
  /(?:^|\n)\s*(?:import|export)\s(?!type\s)[^;"']*?from\s*["']([^"']+)["']|\bimport\s*\(?\s*["']([^"']+)["']/g;

/** @param {string} file @returns {string[]} */
function importsOf(file) {
  const matches = readFileSync(file, "utf8").matchAll(importPattern);
  return [...matches].map((match) => match[1] ?? match[2] ?? "");
}

/** @param {string} specifier of a package, perhaps of a file in it */
const packageOf = (specifier) => {
  const [first = "", second] = specifier.split("/");
  return first.startsWith("@") ? `${first}/${second}` : first;
};

/** @param {string} folder @returns {Set<string>} */
function packagesOf(folder) {
  const packages = new Set();
  const files = programs.map((program) => join(folder, program));
  const seen = new Set(files);
  for (const file of files) {
    for (const specifier of importsOf(file)) {
      if (specifier.startsWith("node:")) continue;
      if (!specifier.startsWith(".")) packages.add(packageOf(specifier));
      else {
        const target = resolve(dirname(file), specifier);
        if (!seen.has(target)) files.push(target);
        seen.add(target);
      }
    }
  }
  return packages;
}

const folder = process.argv[2] ?? ".";
const path = join(folder, "package.json");
const manifest = JSON.parse(readFileSync(path, "utf8"));
const packages = packagesOf(folder);
const missing = [...packages].filter((name) => !(name in manifest.dependencies));
if (missing.length > 0) throw new Error(`package.json lacks ${missing.join(", ")}.`);
const kept = Object.entries(manifest.dependencies).filter(([name]) => packages.has(name));
writeFileSync(
  path,
  JSON.stringify({
    name: "axon-dataplane",
    version: manifest.version,
    license: manifest.license,
    private: true,
    type: "module",
    dependencies: Object.fromEntries(kept),
  }),
);
