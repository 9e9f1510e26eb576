import { readFile } from "node:fs/promises";
import { AxonClientError } from "../client/errors.ts";
import { exitCodesHelp, runCommand } from "./command.ts";
import { commands } from "./commands.ts";
import { CommandError } from "./stage.ts";

const help = `axon: chat with a model that no single process holds, and see how it does.

${Object.entries(commands)
  .map(([name, { summary }]) => `  axon ${name.padEnd(12)} ${summary}\n`)
  .join("")}
axon COMMAND --help explains a command and its options. axon --version says which Axon this is.

${exitCodesHelp}`;

async function main([name, ...args]: readonly string[]): Promise<number> {
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(help);
    return name === undefined ? 2 : 0;
  }
  if (name === "--version") {
    process.stdout.write(`${await version()}\n`);
    return 0;
  }
  const listed = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (listed === undefined) {
    throw new CommandError(`There is no command "${name}". Try axon --help.`, { exitCode: 2 });
  }
  return runCommand(name, await listed.load(), args);
}

async function version(): Promise<string> {
  const text = await readFile(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

// Whoever reads only the beginning, as `| head` does, ends the command as it ends any other: by SIGPIPE's code.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(141);
});

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (!(error instanceof CommandError || error instanceof AxonClientError)) throw error;
  process.stderr.write(`axon: ${error.message}\n`);
  process.exitCode = error instanceof CommandError ? error.exitCode : 1;
}
