import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseRolloutRequest } from "../../events/rollout-request.ts";

const root = join(import.meta.dirname, "..", "..");
const committed = readFileSync(join(root, "docs", "ROLLOUT.md"), "utf8");

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "axon-rollout-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

test("the pictures are what the deciders give: npm run build:rollout-diagram", () => {
  const file = join(folder, "ROLLOUT.md");
  execFileSync(process.execPath, [join(root, "docs", "build-rollout-diagram.ts"), file]);
  expect(readFileSync(file, "utf8")).toBe(committed);
});

describe("the table of the request", () => {
  const defaults = parseRolloutRequest({ rolloutId: "r", model: "m", revision: "v", by: "x" });
  const section = committed.split("\n## ").find((text) => text.startsWith("The request")) ?? "";
  const cells = [...section.matchAll(/^\| `([a-zA-Z0-9.]+)`[^|]*\| ([^|]+?) *\|/gm)];
  const units: Record<string, number> = { ms: 1, s: 1e3, min: 6e4, h: 3.6e6 };

  /** "10 min" in ms; other numbers and words as they are. */
  function read(text: string): unknown {
    const [, number, unit] = /^([\d.,]+)(?: (ms|s|min|h))?/.exec(text) ?? [];
    if (number === undefined) return text.replaceAll("`", "").split(":")[0];
    return Number(number.replace(/,$/, "")) * (unit === undefined ? 1 : (units[unit] ?? 0));
  }

  test("has every part of it", () => {
    expect(cells.length).toBe(20);
  });

  test.each(cells.map(([, name = "", cell = ""]) => [name, cell] as const))(
    "says of %s %s",
    (name, cell) => {
      const value = name
        .split(".")
        .reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], defaults);
      // Of a list, or of two fields in one row, the first.
      const first = Array.isArray(value) ? value[0] : value;
      expect(read(cell)).toBe(typeof first === "number" ? first : String(first));
    },
  );
});
