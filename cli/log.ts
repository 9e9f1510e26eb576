import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { positionAt, timeOfPosition } from "../events/ids.ts";
import type { ObservedData, SeenCommit } from "../events/views.ts";
import { paint } from "./colours.ts";
import {
  defineCommand,
  exitCodesHelp,
  noMoreWords,
  numberOf,
  operatorHelp,
  operatorOptions,
  type Values,
} from "./command.ts";
import { clockText } from "./figures.ts";
import { momentOf } from "./moments.ts";
import { replay } from "./rollout.ts";
import { CommandError, findStage, getJson, type Stage } from "./stage.ts";
import { jsonLines, see } from "./views.ts";

const logOptions = {
  ...operatorOptions,
  url: { type: "string" },
  all: { type: "boolean", default: false },
  type: { type: "string" },
  tenant: { type: "string" },
  since: { type: "string" },
  before: { type: "string" },
  limit: { type: "string" },
  follow: { type: "boolean", short: "f", default: false },
  until: { type: "string" },
  model: { type: "string" },
} as const;

export const logCommand = defineCommand({
  help: `axon log: the events of a turn, or of everything.

  axon log                         the events of your latest turn
  axon log TURN | CONVERSATION     of a turn, or of all turns of a conversation
  axon log --all [STREAM]          the log of all tenants, the newest commits; STREAM is how the names of their
                                   streams begin: turn/, conversation/, group/, rollout/NAME
  axon log --follow [STREAM]       the same as it grows, until Ctrl-C
  axon log replay --until WHEN     the rollouts up to a moment, and how it all stood then

Options
  --url URL        where Axon is, for your own turns (default: AXON_URL, or what \`npm start\` runs)
  --type TYPE      --all, --follow: only commits with an event of this type
  --tenant ID      --all, --follow: only what is this tenant's, and what is of nobody
  --since WHEN | --before WHEN
                   --all: those after it, oldest first, or before it: a position, which --json shows, a time
                   (2026-01-31T12:00:00Z), or how long ago (10m)
  --limit N        --all: so many commits, at most 100 (default 20)
  --model NAME     replay: which model
${operatorHelp}
Texts of prompts and answers are shown for your own turns only; elsewhere stands how long they are.

${exitCodesHelp}`,
  words: ["replay"],
  options: logOptions,
  async run([first, ...more], options) {
    if (first === "replay") {
      noMoreWords("log", more);
      return replay(options);
    }
    noMoreWords("log", more);
    if (options.follow) return follow(first, options);
    if (options.all) return browse(first, options);
    return own({ url: options.url, stream: first, json: options.json });
  },
});

type LogOptions = Values<typeof logOptions>;

const filtersOf = (stream: string | undefined, { type, tenant: tenantId }: LogOptions) => ({
  ...{ stream, type, tenantId },
});

async function browse(stream: string | undefined, options: LogOptions): Promise<number> {
  const { limit } = options;
  const after = positionOf("since", options.since);
  const before = positionOf("before", options.before);
  const asked = { ...filtersOf(stream, options), after, before };
  const page = { limit: numberOf("limit", limit) ?? 20 };
  const { commits } = await see(options.stage, "log", { ...asked, ...page });
  print(after === undefined ? commits.toReversed() : commits, options.json);
  return 0;
}

/** The position that a moment stands for: of all commits until then, or from then on. @throws CommandError */
function positionOf(option: string, text: string | undefined): string | undefined {
  const { at, position } = momentOf(option, text);
  return at === undefined ? position : positionAt(at);
}

/** How often is looked for more. */
const followEveryMs = 1_000;
/** A commit may show up so much late in the order, by the clocks of the writers and the delay of the index. */
const lateMs = 5_000;

async function follow(stream: string | undefined, options: LogOptions): Promise<number> {
  const asked = filtersOf(stream, options);
  const { commits, range } = await see(options.stage, "log", { ...asked, limit: 5 });
  print(commits.toReversed(), options.json);
  /** Positions of the last seconds that were shown, or were there before. */
  let shown = new Set(commits.map(({ position }) => position));
  const from = range.last?.position ?? positionAt(0);
  let newest = from;
  for (;;) {
    await sleep(followEveryMs);
    const again = positionAt(Math.max(0, timeOfPosition(newest) - lateMs));
    let after: string | null = [again, from].toSorted().at(-1) ?? from;
    while (after !== null) {
      const page: ObservedData["log"] = await see(options.stage, "log", { ...asked, after });
      const fresh = page.commits.filter(({ position }) => !shown.has(position));
      print(fresh, options.json);
      for (const { position } of fresh) {
        shown.add(position);
        if (position > newest) newest = position;
      }
      after = page.next;
    }
    shown = new Set([...shown].filter((position) => position > again));
  }
}

function print(commits: readonly SeenCommit[], json: boolean): void {
  process.stdout.write(json ? jsonLines(commits) : commits.map(commitText).join(""));
}

function commitText({ stream, version, at, events }: SeenCommit): string {
  const head = `${clockText(at)}  ${stream} ${paint(`v${version}`, "dim")}`;
  const lines = events.map((event) => `    ${event.type.padEnd(20)} ${factsOf(event)}`.trimEnd());
  return `${[head, ...lines].join("\n")}\n`;
}

const conversationsSchema = z.object({ conversations: z.array(z.object({ id: z.string() })) });
const conversationSchema = z.object({ turns: z.array(z.object({ id: z.string() })) });
const eventSchema = z.looseObject({ type: z.string(), at: z.number() });
const eventsSchema = z.object({ turnId: z.string(), events: z.array(eventSchema) });
type LoggedEvent = z.infer<typeof eventSchema>;

/** Prints the events of a turn, of all turns of a conversation, or of the latest turn, of whoever has the key. */
async function own(command: {
  url: string | undefined;
  stream: string | undefined;
  json: boolean;
}): Promise<number> {
  const stage = await findStage(command.url);
  for (const turnId of await turnsOf(stage, command.stream)) {
    const { events } = eventsSchema.parse(await getJson(stage, `/turns/${turnId}/events`));
    process.stdout.write(command.json ? jsonLines(events) : readable(turnId, events));
  }
  return 0;
}

async function turnsOf(stage: Stage, stream: string | undefined): Promise<string[]> {
  const [, kind, id] = /^(?:(turn|conversation)\/)?(.+)$/.exec(stream ?? "") ?? [];
  if (id !== undefined && (kind === "turn" || id.startsWith("turn_"))) return [id];
  const turns = await turnsOfConversation(stage, id ?? (await latestConversation(stage)));
  return id === undefined ? turns.slice(-1) : turns;
}

async function turnsOfConversation(stage: Stage, id: string): Promise<string[]> {
  const found = await getJson(stage, `/conversations/${encodeURIComponent(id)}`);
  return conversationSchema.parse(found).turns.map((turn) => turn.id);
}

async function latestConversation(stage: Stage): Promise<string> {
  const page = conversationsSchema.parse(await getJson(stage, "/conversations?limit=1"));
  const [latest] = page.conversations;
  if (latest === undefined) throw new CommandError("Nothing was asked yet. Try axon chat.");
  return latest.id;
}

/** Fields that the line or the heading says already. */
const told = new Set(["type", "version", "at", "turnId", "streamVersion", "position"]);

/** One line an event: when, how long after the first, what, and its facts. */
function readable(turnId: string, events: LoggedEvent[]): string {
  const [first] = events;
  const lines = events.map((event) => {
    const after = `+${event.at - (first?.at ?? event.at)} ms`.padStart(10);
    return `  ${clockText(event.at)} ${after}  ${event.type.padEnd(20)} ${factsOf(event)}\n`;
  });
  return `turn/${turnId}\n${lines.join("")}`;
}

const factsOf = (event: Record<string, unknown>): string =>
  Object.entries(event)
    .filter(([name]) => !told.has(name))
    .map(([name, value]) => `${name}=${shown(value)}`)
    .join(" ");

const mostCharacters = 60;

function shown(value: unknown): string {
  const text =
    typeof value === "string" && /^[\w./-]+$/.test(value) ? value : JSON.stringify(value);
  return text.length > mostCharacters ? `${text.slice(0, mostCharacters - 1)}…` : text;
}
