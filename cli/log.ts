import { z } from "zod";
import { CommandError, findStage, getJson, type Stage } from "./stage.ts";

const conversationsSchema = z.object({ conversations: z.array(z.object({ id: z.string() })) });
const conversationSchema = z.object({ turns: z.array(z.object({ id: z.string() })) });
const eventSchema = z.looseObject({ type: z.string(), at: z.number() });
const eventsSchema = z.object({ turnId: z.string(), events: z.array(eventSchema) });
type LoggedEvent = z.infer<typeof eventSchema>;

/** Prints the events of a turn, of all turns of a conversation, or of the latest turn. */
export async function log(command: {
  url: string | undefined;
  stream: string | undefined;
  json: boolean;
}): Promise<number> {
  const stage = await findStage(command.url);
  for (const turnId of await turnsOf(stage, command.stream)) {
    const { events } = eventsSchema.parse(await getJson(stage, `/turns/${turnId}/events`));
    if (command.json) {
      for (const event of events) process.stdout.write(`${JSON.stringify(event)}\n`);
    } else {
      process.stdout.write(readable(turnId, events));
    }
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
    const time = new Date(event.at).toISOString().slice(11, 23);
    const after = `+${event.at - (first?.at ?? event.at)} ms`.padStart(10);
    const facts = Object.entries(event)
      .filter(([name]) => !told.has(name))
      .map(([name, value]) => `${name}=${shown(value)}`);
    return `  ${time} ${after}  ${event.type.padEnd(20)} ${facts.join(" ")}\n`;
  });
  return `turn/${turnId}\n${lines.join("")}`;
}

const mostCharacters = 60;

function shown(value: unknown): string {
  const text =
    typeof value === "string" && /^[\w./-]+$/.test(value) ? value : JSON.stringify(value);
  return text.length > mostCharacters ? `${text.slice(0, mostCharacters - 1)}…` : text;
}
