import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { packagesAreStale, pageIsStale, wayToPackage } from "../../local/install.mjs";

const root = join(import.meta.dirname, "..", "..");

describe("packages", () => {
  const a = { version: "1.0.0", integrity: "sha512-a" };
  const other = { version: "2.0.0", integrity: "sha512-b", optional: true };
  const lock = (packages: object) => JSON.stringify({ packages });
  const wanted = lock({ "": { name: "axon" }, "node_modules/a": a, "node_modules/other": other });

  test("are there when npm has noted the same, but for what other platforms need", () => {
    expect(packagesAreStale(wanted, lock({ "node_modules/a": a }))).toBe(false);
    expect(
      packagesAreStale(wanted, lock({ "node_modules/a": a, "node_modules/other": other })),
    ).toBe(false);
  });

  test.each([
    ["nothing was ever installed", undefined],
    ["one is missing", lock({})],
    ["one has another version", lock({ "node_modules/a": { ...a, version: "1.0.1" } })],
    ["one has other content", lock({ "node_modules/a": { ...a, integrity: "sha512-x" } })],
    ["one is left over", lock({ "node_modules/a": a, "node_modules/old": a })],
  ])("are installed when %s", (_why, installed) => {
    expect(packagesAreStale(wanted, installed)).toBe(true);
  });
});

describe("Redis and Chromium", () => {
  const none = { named: false, onPath: false, unpacked: false, apt: true, root: false };
  test.each([
    ["present", { ...none, named: true }],
    ["present", { ...none, onPath: true, apt: false }],
    ["present", { ...none, unpacked: true, apt: false }],
    ["install", { ...none, root: true }],
    ["unpack", none],
    ["impossible", { ...none, apt: false, root: true }],
  ])("are %s", (way, found) => {
    expect(wayToPackage(found)).toBe(way);
  });
});

test("the page is built when it was not, or when a source is newer", () => {
  expect(pageIsStale(undefined, [1])).toBe(true);
  expect(pageIsStale(10, [1, 11])).toBe(true);
  expect(pageIsStale(10, [1, 10])).toBe(false);
});

test("the script runs on a plain Node, and refuses what it does not know", () => {
  const script = join(root, "local", "install.mjs");
  const { status, stderr } = spawnSync("node", [script, "nonsense"], { encoding: "utf8" });
  expect(status).toBe(1);
  expect(stderr).toContain("start|test");
});
