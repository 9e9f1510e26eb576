import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { withTables } from "./scale/document.ts";
import { measureRedis } from "./scale/redis-cost.ts";
import { scaleTables } from "./scale/tables.ts";

const usage = `npm run bench:scale -- [options]

How Axon grows with its connections, on paper: the sums and the simulations of docs/SCALE.md, as tables in
Markdown. Nothing but --measure-redis measures this machine; the same seed gives the same tables.

  --connections N   up to how many (default 1,000,000)
  --seed N          of the simulations (default 1)
  --write           puts the tables into docs/SCALE.md
  --check           fails where docs/SCALE.md has other ones
  --measure-redis   what appends and turns cost Redis here: the constants that the sums take
  --help`;

const { values } = parseArgs({
  options: {
    connections: { type: "string", default: "1000000" },
    seed: { type: "string", default: "1" },
    write: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
    "measure-redis": { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text.replaceAll(",", ""));
  if (Number.isInteger(value) && value >= least) return value;
  console.error(`--${name} takes a whole number from ${least} on, not "${text}".\n\n${usage}`);
  process.exit(2);
}

if (values.help) {
  console.log(usage);
} else if (values["measure-redis"]) {
  const { appendsPerCpuSecond, bytesPerTurn } = await measureRedis();
  console.log(`${appendsPerCpuSecond.toFixed(0)} appends a second of Redis's processor`);
  console.log(`${bytesPerTurn.toFixed(0)} bytes for a turn that has ended`);
} else {
  const connections = wholeNumber("connections", values.connections, 1);
  const seed = wholeNumber("seed", values.seed, 0);
  const tables = scaleTables(connections, seed);
  if (values.write || values.check) {
    const path = join(import.meta.dirname, "..", "docs", "SCALE.md");
    const document = readFileSync(path, "utf8");
    const filled = withTables(document, tables);
    if (values.write) writeFileSync(path, filled);
    else if (filled !== document) {
      console.error(
        "docs/SCALE.md has other tables: npm run bench:scale -- --write, and read what it says.",
      );
      process.exitCode = 1;
    }
  } else {
    for (const [name, text] of Object.entries(tables)) console.log(`## ${name}\n\n${text}\n`);
  }
}
