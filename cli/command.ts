import { type ParseArgsConfig, parseArgs } from "node:util";
import { CommandError } from "./stage.ts";

/**
 * One command of `axon`, in a file of its own: which words and options it takes, how it is explained, and what it
 * does. An option that it does not name it refuses.
 */
export interface Command<Options extends OptionTable = OptionTable> {
  /** Below `axon <name> --help`: what it is for, its options, its exit codes. */
  help: string;
  /** As node:util's parseArgs takes them; --help is there by itself. */
  options: Options;
  /** Words that may come first, for completion. */
  words?: readonly string[];
  /** @returns the exit code. @throws CommandError */
  run(words: readonly string[], options: Values<Options>): Promise<number>;
}

export type OptionTable = NonNullable<ParseArgsConfig["options"]>;
export type Values<Options extends OptionTable> = ReturnType<
  typeof parseArgs<{ options: Options; allowPositionals: true }>
>["values"];

/** Keeps the types of the options for `run`. */
export function defineCommand<const Options extends OptionTable>(
  command: Command<Options>,
): Command<Options> {
  return command;
}

/** Of every command that asks the function `ops`. */
export const operatorOptions = {
  stage: { type: "string" },
  json: { type: "boolean", default: false },
} as const;

/** Under the help of every command that asks this function. */
export const operatorHelpOf = (
  name: "ops" | "data",
) => `  --stage NAME     a deployed stage: its function axon-NAME-${name} is asked, with the region and the credentials
                   that the AWS SDK finds (AXON_${name.toUpperCase()}_FUNCTION names another function)
  --json           for programs: one JSON object a line
  -h, --help       this text

Without --stage it is the stage that \`npm start\` runs here (AXON_DATA names another data folder).
`;

export const operatorHelp = operatorHelpOf("ops");

export const exitCodesHelp = `Exit codes: 0 done; 1 it failed, was refused, or something is wrong; 2 the command cannot be understood;
3 nothing answers; 130 stopped by Ctrl-C.
`;

const helpOption = { help: { type: "boolean", short: "h", default: false } } as const;

/** Parses and runs. @returns the exit code. @throws CommandError */
export async function runCommand(
  name: string,
  command: Command,
  args: readonly string[],
): Promise<number> {
  const { values, positionals } = parse(name, command.options, args);
  if (values["help"] === true) {
    process.stdout.write(command.help);
    return 0;
  }
  const { help: _, ...asked } = values;
  return command.run(positionals, asked);
}

function parse(name: string, options: OptionTable, args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: { ...options, ...helpOption },
      allowPositionals: true,
    });
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    // What follows tells of words that begin with a dash, which nobody has asked for.
    const [problem] = why.split(". To specify");
    throw new CommandError(`${name}: ${problem}. Try axon ${name} --help.`, { exitCode: 2 });
  }
}

/** @throws CommandError where there is a word too many. */
export function noMoreWords(name: string, words: readonly string[]): void {
  if (words[0] === undefined) return;
  throw new CommandError(`"${words[0]}" is one word too many. Try axon ${name} --help.`, {
    exitCode: 2,
  });
}

/** An integer of an option. @throws CommandError */
export function numberOf(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() !== "" && !Number.isNaN(value)) return value;
  throw new CommandError(`--${name} takes a number, not "${text}".`, { exitCode: 2 });
}

/** The fields that have a value. */
export function given(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
