import { existsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { paint } from "./colours.ts";
import {
  defineCommand,
  exitCodesHelp,
  noMoreWords,
  operatorHelp,
  operatorOptions,
} from "./command.ts";
import { askOperator } from "./operator.ts";
import { CommandError, dataFolder, localStageFile } from "./stage.ts";
import { jsonLines } from "./views.ts";

const checkSchema = z.object({
  name: z.string(),
  isWell: z.boolean(),
  seen: z.string(),
  advice: z.string().nullable(),
});
type Check = z.infer<typeof checkSchema>;
const answeredSchema = z.object({ checks: z.array(checkSchema) });

export const doctorCommand = defineCommand({
  help: `axon doctor: whether everything that Axon needs is there, and what to do where it is not.

Of this machine: Node, the packages, the disk, the page. Of the stage, as its function ops sees it: Redis,
PostgreSQL, the event log, the queues and their dead letters, the relays, the groups, turns that are stuck.

Options
${operatorHelp}
${exitCodesHelp}`,
  options: operatorOptions,
  async run(words, { stage, json }) {
    noMoreWords("doctor", words);
    const checks: Check[] = [];
    const tell = (check: Check) => {
      checks.push(check);
      process.stdout.write(json ? jsonLines([check]) : checkText(check));
    };
    for (const check of await ofThisMachine(stage === undefined)) tell(check);
    for (const check of await ofTheStage(stage)) tell(check);
    const ill = checks.filter(({ isWell }) => !isWell).length;
    if (!json)
      process.stdout.write(
        ill === 0 ? "All is well.\n" : `${ill} of ${checks.length} are not well.\n`,
      );
    return ill === 0 ? 0 : 1;
  },
});

function checkText({ name, isWell, seen, advice }: Check): string {
  const mark = isWell ? paint("ok  ", "green") : paint("FAIL", "red");
  const hint = advice === null ? "" : `       ${advice}\n`;
  return `  ${mark} ${name.padEnd(34)} ${seen}\n${hint}`;
}

/** A check that is well where `advice` is undefined. */
const found = (name: string, seen: string, advice?: string): Check => ({
  ...{ name, seen, isWell: advice === undefined, advice: advice ?? null },
});

async function ofThisMachine(isLocal: boolean): Promise<Check[]> {
  const [major = 0] = process.versions.node.split(".").map(Number);
  const root = join(import.meta.dirname, "..");
  const hasPackages = existsSync(join(root, "node_modules", "zod"));
  const checks = [
    found(
      "node",
      process.versions.node,
      major >= 24 ? undefined : "Run `npm ci`: it brings Node 24 along.",
    ),
    found(
      "packages",
      hasPackages ? "installed" : "missing",
      hasPackages ? undefined : "Run `npm ci`.",
    ),
  ];
  return isLocal ? [...checks, await disk(), await page()] : checks;
}

/** Below it a store may be unable to write what it has promised. */
const leastFreeBytes = 2 ** 30;

async function disk(): Promise<Check> {
  const folder = dataFolder();
  const where = existsSync(folder) ? folder : join(folder, "..");
  try {
    const { bavail, bsize } = await statfs(where);
    const free = bavail * bsize;
    const seen = `${(free / 2 ** 30).toFixed(1)} GiB free`;
    return found(
      "disk",
      seen,
      free >= leastFreeBytes ? undefined : `Make room where ${where} lies.`,
    );
  } catch (error) {
    return found("disk", String(error), `See whether ${where} can be read.`);
  }
}

async function page(): Promise<Check> {
  const url = (localStageFile() as { url?: string } | undefined)?.url;
  const advice = "Start the stage with `npm start`; what it says on the way tells what is missing.";
  if (url === undefined) return found("page", "no stage runs here", advice);
  try {
    const response = await fetch(new URL("/config.json", url), {
      signal: AbortSignal.timeout(5_000),
    });
    if (response.ok) return found("page", url);
    return found("page", `${url} answers ${response.status}`, advice);
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const why = cause instanceof Error ? cause.message : String(cause);
    return found("page", `${url} does not answer: ${why}`, advice);
  }
}

async function ofTheStage(stage: string | undefined): Promise<Check[]> {
  try {
    return answeredSchema.parse(await askOperator({ command: "check" }, stage)).checks;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const advice =
      stage === undefined
        ? "Without it nothing is seen of the stage: start it with `npm start`."
        : "See the stage's name, AWS_REGION, and whether your credentials may invoke the function.";
    return [found("ops", error.message, advice)];
  }
}
