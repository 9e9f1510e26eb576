import { execFile } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Plan } from "../../cluster/plan/plan.ts";

/** `axon plan` as a process of its own. */

const root = join(import.meta.dirname, "..", "..");
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "axon-plan-"));
});
afterAll(() => {
  rmSync(folder, { recursive: true });
});

interface Result {
  code: number;
  stdout: string;
  stderr: string;
}

function axon(args: string[], { bin = "cli/main.ts", cwd = root } = {}): Promise<Result> {
  return new Promise((resolve) => {
    const command = [join(root, bin), "plan", ...args];
    execFile(process.execPath, command, { cwd }, (error, ...out) => {
      const [stdout, stderr] = out.map(String) as [string, string];
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

/** The example, with other numbers in its only revision. */
function configWith(changes: object): string {
  const path = join(folder, `${Object.keys(changes).join("-")}.config.ts`);
  const example = pathToFileURL(join(root, "axon.config.ts")).href;
  writeFileSync(
    path,
    `import example from ${JSON.stringify(example)};
const [model] = example.models;
const revisions = [{ ...model.revisions[0], ...${JSON.stringify(changes)} }];
export default { ...example, models: [{ ...model, revisions }] };
`,
  );
  return path;
}

test("the example: tables, by the published command", async () => {
  const { code, stdout, stderr } = await axon([], { bin: "cli/axon.mjs" });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout).toContain(
    "1 to 2 groups of 2 × p4d.24xlarge, tensor parallel 8 × pipeline parallel 2",
  );
  expect(stdout).toMatch(
    /^ {4}0 {6}40 {3}8\.8 GB {3}2\.7 GB {3}28\.0 GB {2}39\.5 GB {2}42\.9 GB {6}20 KiB$/m,
  );
  expect(stdout).toContain(
    "A token takes 320 KiB of the group's cache; 1,367,616 tokens have room",
  );
  expect(stdout).toMatch(/^161 all-reduces of 16 KiB {2}over NVLink {3}1\.9 ms$/m);
  expect(stdout).toContain("1.9 ms over NVLink, up to 42.7 ms over EFA.");
  expect(stdout).toMatch(
    /^p4d\.24xlarge of \S+ {2}\$16029\.08 {5}2 {5}4 {4}\$32,058 {4}\$64,116$/m,
  );
  expect(stdout).toContain("The oldest of these prices is of 2026;");
  expect(stdout).toContain("Running On-Demand P instances (L-417A185B): 384 vCPUs");
  expect(stdout).toMatch(/\nIt can be deployed\.\n$/);
});

test("--json is the plan as one object", async () => {
  const { code, stdout } = await axon(["--json"]);
  const { revisions, cost, problems } = JSON.parse(stdout) as Plan;
  expect(code).toBe(0);
  expect(problems).toEqual([]);
  expect(revisions).toMatchObject([
    { revision: "llama-3-70b-instruct-1", memory: { fullContexts: 166 } },
  ]);
  expect(cost.idle.usd).toBeGreaterThan(32_000);
  expect(cost.lines[0]?.price).toMatchObject({ usd: 21.957642, per: "hour", asOf: "2026-07-20" });
});

test("what is refused: exit code 1, with the sum, in tables and in JSON", async () => {
  const config = configWith({ nodes: 1, tensorParallel: 1, pipelineParallel: 1 });
  const text = await axon(["--config", config]);
  expect(text).toMatchObject({ code: 1, stderr: "" });
  expect(text.stdout).toMatch(/^Refused$/m);
  expect(text.stdout).toMatch(/^ {4}needed {29}146\.5 GB$/m);
  expect(text.stdout).not.toContain("It can be deployed.");
  const json = await axon(["--config", config, "--json"]);
  expect(json.code).toBe(1);
  expect((JSON.parse(json.stdout) as Plan).problems).toHaveLength(2);
});

test("warnings do not stop anybody, and an unknown price is no sum", async () => {
  const config = configWith({ slots: 500 });
  const { code, stdout } = await axon(["--config", config]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^Warnings$/m);
  const elsewhere = join(folder, "elsewhere.config.ts");
  const example = pathToFileURL(join(root, "axon.config.ts")).href;
  writeFileSync(
    elsewhere,
    `import example from ${JSON.stringify(example)};\nexport default { ...example, region: "eu-west-1" };\n`,
  );
  const priceless = await axon(["--config", elsewhere]);
  expect(priceless.stdout).toMatch(/^sum +unknown +unknown$/m);
  expect(priceless.stdout).toContain("No price of eu-west-1 is in the table");
});

test.each([
  [["now"], 2, "axon plan takes no words"],
  [["--config", "nowhere.ts"], 1, "nowhere.ts. Name another file with --config."],
  [["--config", "package.json"], 1, "cannot be read"],
])("axon plan %j: exit code %i", async (args, code, message) => {
  expect(await axon(args)).toMatchObject({ code, stderr: expect.stringContaining(message) });
});

test("a file with a wrong shape names the field", async () => {
  const { code, stderr } = await axon(["--config", configWith({ nodes: 0 })]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/models\.0\.revisions\.0\.nodes: /);
});

test("--help says what the exit codes mean", async () => {
  expect(await axon(["--help"])).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("Exit codes: 0 it can be deployed"),
  });
});

test("the embedded engine, scaled to nothing: no GPUs, no EFA", async () => {
  const config = configWith({
    ...{ engine: { kind: "embedded", weights: "int8" }, instanceType: "c7a.48xlarge", nodes: 4 },
    ...{ tensorParallel: 64, pipelineParallel: 1, contextTokens: 2_048, slots: 2 },
    groups: { min: 0, max: 1 },
  });
  const { code, stdout } = await axon(["--config", config]);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^161 all-reduces of 32 KiB {2}over TCP +\d/m);
  expect(stdout).not.toContain("EFA");
  expect(stdout).not.toContain("a group is taken to say");
  expect(stdout).toMatch(/^c7a\.48xlarge of \S+ {2}\$7193\.01 {5}0 {5}4 +\$0 {4}\$28,772$/m);
});
