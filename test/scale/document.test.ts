import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { withTables } from "../../bench/scale/document.ts";

/** docs/SCALE.md says what the program says. */

test("the document's tables are those of the program", { timeout: 120_000 }, async () => {
  const program = join(import.meta.dirname, "..", "..", "bench", "scale.ts");
  // In a process of its own, where it takes a quarter of the time.
  await promisify(execFile)(process.execPath, [program, "--check"]);
});

test("a table has one place, and a place has a table", () => {
  const places = "a\n<!-- table x -->old<!-- end -->\nb\n<!-- table y --><!-- end -->\n";
  expect(withTables(places, { x: "| 1 |", y: "| $& |" })).toBe(
    "a\n<!-- table x -->\n\n| 1 |\n\n<!-- end -->\nb\n<!-- table y -->\n\n| $& |\n\n<!-- end -->\n",
  );
  expect(() => withTables(places, { x: "" })).toThrow('There is no table "y"');
  expect(() => withTables(places, { x: "", y: "", z: "" })).toThrow("no place for z");
});
