#!/usr/bin/env node
// Any Node from version 20 on can start this; the command itself runs on the pinned one.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const node = join(root, "node_modules", "node", "bin", "node");
if (!existsSync(node)) {
  console.error("axon: nothing is installed yet. Run `npm start` or `npm ci` first.");
  process.exit(1);
}
const child = spawn(node, [join(root, "cli", "main.ts"), ...process.argv.slice(2)], {
  stdio: "inherit",
});
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => child.kill(signal));
// As a shell has it: 130 after Ctrl-C.
child.on("exit", (code, signal) =>
  process.exit(signal === null ? (code ?? 1) : 128 + constants.signals[signal]),
);
