import { z } from "zod";
import type { DataOperation } from "../events/data-operations.ts";
import { ask } from "./ask.ts";
import { defineCommand, exitCodesHelp, operatorHelpOf } from "./command.ts";
import { askFunction } from "./operator.ts";
import { CommandError } from "./stage.ts";

const dataHelp = `axon rebuild, erase, export: what Axon keeps (docs/DATA.md).

  axon rebuild history              reads the log into new tables, which take the place of those in use
  axon rebuild history --abandon    throws away what a rebuild has done so far
  axon erase conversation ID        erases what was said in it, for good
  axon erase tenant ID              all conversations of a tenant
  axon export conversation ID       what was said, as one JSON object a line
  axon export tenant ID

Options
  -y, --yes        erase: does not ask whether you are sure
  --events         export: the events of each turn, too
${operatorHelpOf("data")}
A rebuild or an erasure that was broken off goes on when it is asked for again. An export is JSON with or without
--json. A turn that runs still has its words in Redis: then an erasure ends with exit code 1.

${exitCodesHelp}`;

interface DataCommand {
  words: readonly string[];
  yes: boolean;
  events: boolean;
  abandon: boolean;
  json: boolean;
  stage: string | undefined;
}

type Question = { command: DataOperation["command"] } & Record<string, unknown>;
const askData = (question: Question, stage: string | undefined) =>
  askFunction({ name: "data", variable: "AXON_DATA_FUNCTION" }, question, stage);

const dataOptions = {
  stage: { type: "string" },
  yes: { type: "boolean", short: "y", default: false },
  events: { type: "boolean", default: false },
  abandon: { type: "boolean", default: false },
  json: { type: "boolean", default: false },
} as const;

const dataCommand = (name: "rebuild" | "erase" | "export", words: readonly string[]) =>
  defineCommand({
    help: dataHelp,
    words,
    options: dataOptions,
    run: (given, { stage, ...options }) => data(name, { ...options, words: given, stage }),
  });

export const rebuildCommand = dataCommand("rebuild", ["history"]);
export const eraseCommand = dataCommand("erase", ["conversation", "tenant"]);
export const exportCommand = dataCommand("export", ["conversation", "tenant"]);

const usage = (text: string) => new CommandError(text, { exitCode: 2 });

/** Returns the exit code. Throws CommandError. */
async function data(
  command: "rebuild" | "erase" | "export",
  options: DataCommand,
): Promise<number> {
  if (command === "rebuild") return rebuild(options);
  const whose = whoseOf(command, options.words);
  return command === "erase" ? erase(whose, options) : exportLines(whose, options);
}

type Whose = { conversationId: string } | { tenantId: string };

function whoseOf(command: string, [kind, id, ...more]: readonly string[]): Whose {
  if (id !== undefined && more.length === 0) {
    if (kind === "conversation") return { conversationId: id };
    if (kind === "tenant") return { tenantId: id };
  }
  throw usage(`Use axon ${command} conversation ID or axon ${command} tenant ID.`);
}

const rebuildSchema = z.object({
  state: z.enum(["working", "busy", "done", "dropped", "none"]),
  ...{ commits: z.number(), events: z.number(), expected: z.number() },
  ...{ eventsPerSecond: z.number(), leftMs: z.number().nullable() },
});

async function rebuild({ words, abandon, json, stage }: DataCommand): Promise<number> {
  const [projection, ...more] = words;
  if (projection !== "history" || more.length > 0) {
    throw usage("Use axon rebuild history: it is the only projection that has tables.");
  }
  for (;;) {
    const answer = await askData({ command: "rebuild", projection, abandon }, stage);
    const progress = rebuildSchema.parse(answer["rebuild"]);
    process.stdout.write(json ? `${JSON.stringify(progress)}\n` : progressLine(progress));
    if (progress.state === "busy") {
      throw new CommandError("Another rebuild is at work. Wait for it, or ask again later.");
    }
    if (progress.state !== "working") return 0;
  }
}

function progressLine(progress: z.infer<typeof rebuildSchema>): string {
  const { state, commits, events, expected, eventsPerSecond, leftMs } = progress;
  if (state === "busy") return "";
  if (state === "none") return "There was no rebuild to throw away.\n";
  if (state === "dropped") return "What the rebuild had done is thrown away.\n";
  const pace = `${events} events, ${eventsPerSecond} a second`;
  if (state === "done") return `Done: ${pace}. The new tables are in use.\n`;
  const percent = expected === 0 ? 100 : Math.min(99, Math.floor((commits / expected) * 100));
  const left = leftMs === null ? "" : `, about ${Math.ceil(leftMs / 1_000)} s left`;
  return `${percent} %: ${pace}${left}\n`;
}

const erasureSchema = z.union([
  z.object({ turns: z.number(), running: z.string().nullable(), plainCommits: z.number() }),
  z.object({
    erased: z.number(),
    running: z.array(z.string()),
    next: z.string().nullable(),
  }),
]);

async function erase(whose: Whose, { yes, json, stage }: DataCommand): Promise<number> {
  if (!yes) await confirmed(whose);
  const running: string[] = [];
  let after: string | undefined;
  let erased = 0;
  do {
    const answer = await askData(
      { command: "erase", ...whose, ...(after !== undefined && { after }) },
      stage,
    );
    const erasure = erasureSchema.parse(answer["erasure"]);
    if (json) process.stdout.write(`${JSON.stringify(erasure)}\n`);
    running.push(...[erasure.running ?? []].flat());
    after = "next" in erasure ? (erasure.next ?? undefined) : undefined;
    erased += "erased" in erasure ? erasure.erased : 1;
  } while (after !== undefined);
  if (!json) process.stdout.write(`Erased: ${erased} conversation${erased === 1 ? "" : "s"}.\n`);
  if (running.length === 0) return 0;
  const turns = running.join(", ");
  throw new CommandError(
    `Not ended yet: ${turns}. Redis has what was said there until its leader reports the end; ask again to see.`,
  );
}

async function confirmed(whose: Whose): Promise<void> {
  const what =
    "tenantId" in whose
      ? `all conversations of the tenant ${whose.tenantId}`
      : `the conversation ${whose.conversationId}`;
  if (!process.stdin.isTTY) throw usage(`This erases ${what}, for good. Say so with --yes.`);
  const answer = await ask(`Erase ${what}, for good? Type yes: `);
  if (answer?.trim() === "yes") return;
  throw new CommandError("Nothing was erased.", { exitCode: answer === undefined ? 130 : 1 });
}

const pageSchema = z.object({ lines: z.array(z.unknown()), next: z.string().nullable() });

/** Page by page, so that no conversation is too long; a reader that is slower is waited for. */
async function exportLines(whose: Whose, { events, stage }: DataCommand): Promise<number> {
  let after: string | undefined;
  do {
    const question = { command: "export", ...whose, events } as const;
    const answer = await askData({ ...question, ...(after !== undefined && { after }) }, stage);
    const { lines, next } = pageSchema.parse(answer);
    if (lines.length === 0 && after === undefined) {
      throw new CommandError("There is nothing to export: no such conversation, or it was erased.");
    }
    for (const line of lines) {
      if (process.stdout.write(`${JSON.stringify(line)}\n`)) continue;
      await new Promise((resolve) => process.stdout.once("drain", resolve));
    }
    after = next ?? undefined;
  } while (after !== undefined);
  return 0;
}
