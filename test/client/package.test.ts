import { spawn } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { countingServer, examples, installedPackage, root } from "./package.ts";
import { scriptedServer } from "./scripted-server.ts";

/** The client as its users have it: built, installed, imported by name. */

let folder: string;
let server: Awaited<ReturnType<typeof scriptedServer>>;
beforeAll(async () => {
  folder = installedPackage();
  server = await scriptedServer(countingServer());
});
afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

const dist = join(root, "client", "dist");
const built = (name: string) => readFileSync(join(dist, name), "utf8");
const importsOf = (text: string) =>
  [...text.matchAll(/(?:from|import)\s*\(?"([^"]+)"/g)].map((match) => match[1] ?? "");

/** Runs a program of a user's. @returns what it printed. */
async function run(name: string, code: string): Promise<string> {
  const file = join(folder, name);
  const text = code.replaceAll("wss://chat.example.com", server.url);
  writeFileSync(file, text);
  const child = spawn(process.execPath, [file], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      output += String(chunk);
    });
  }
  const exitCode = await new Promise((resolve) => child.once("close", resolve));
  expect(exitCode, output).toBe(0);
  return output;
}

test("is below 5 kB, and needs no other package", () => {
  const shared = readdirSync(dist).filter((name) => /^errors-.*\.js$/.test(name));
  const files = ["client.js", ...shared].map(built);
  expect(gzipSync(files.join("")).length).toBeLessThanOrEqual(5_000);
  const packages = files.flatMap(importsOf).filter((target) => !target.startsWith("./"));
  expect(packages).toEqual([]);
  expect(importsOf(built("react.js")).filter((target) => !target.startsWith("./"))).toEqual([
    "react",
  ]);
});

test("its types need no other package either", () => {
  const folderOfTypes = join(dist, "types", "client");
  const targets = readdirSync(folderOfTypes).flatMap((name) =>
    importsOf(readFileSync(join(folderOfTypes, name), "utf8")),
  );
  expect(targets.filter((target) => !target.startsWith("."))).toEqual([]);
});

test("plain JavaScript can use it", async () => {
  const code = `
    import { connect } from "axon/client";
    const client = connect({ url: "wss://chat.example.com", credential: "k" });
    console.log(await client.chat({ prompt: "Count to three." }).text());
    client.close();
  `;
  expect(await run("plain.mjs", code)).toBe("1 2 3 \n");
});

describe("the examples of its documentation", () => {
  const all = examples("ts");
  test("are found", () => {
    expect(all.length).toBeGreaterThanOrEqual(5);
    for (const { output } of all) expect(output).not.toBe("");
  });

  test.each(all.map((example, i) => [i + 1, example] as const))(
    "number %i prints what it says",
    async (number, { code, output }) => {
      expect((await run(`example-${number}.ts`, code)).trim()).toBe(output.trim());
    },
  );
});
