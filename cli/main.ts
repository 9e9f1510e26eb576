import { parseArgs } from "node:util";
import { AxonClientError } from "../client/errors.ts";
import { chat } from "./chat.ts";
import { log } from "./log.ts";
import { CommandError } from "./stage.ts";
import { worker, workerHelp } from "./worker.ts";

const help = `axon: chat with a model that no single process holds.

  axon chat "…"            ask, and read the answer as it comes
  axon chat                ask on and on; an empty line or Ctrl-D ends it
  axon log                 the events of the latest turn
  axon log <turn | conversation>
                           the events of a turn, or of all turns of a conversation
  axon log replay --until WHEN
                           the rollouts up to a moment, and how it all stood then
  axon turn ID             which revision and group have produced a turn
  axon rollout start REVISION | status | history | …
                           moves a model's traffic from one revision to the next
  axon worker --rank N --leader HOST:PORT --model PATH
                           lend this machine to a group that another one leads
  axon models pull | list | rm
                           get models for \`npm start -- --model\`, and see which there are
  axon plan                whether the models of axon.config.ts fit, how fast they can be, what it costs
  axon jobs dlq            messages that could not be worked off; --redrive tries them again

Options
  --url URL                where Axon is (default: AXON_URL, or what \`npm start\` runs)
  --conversation ID        chat: go on with a conversation
  --model NAME             chat: which model to ask
  --temperature N          chat: 0 is greedy
  --top-p P                chat: only the likeliest tokens that add up to P
  --min-p P                chat: only tokens at least P times as probable as the likeliest
  --repetition-penalty N   chat: above 1 makes words that were there before less likely
  --stop TEXT              chat: the answer ends before this text; up to 4 times
  --max-tokens N           chat: the longest answer
  --seed N                 chat: the same seed gives the same answer
  --json                   chat: updates, log: events, as one JSON object a line
  --name NAME, --yes       models: axon models --help explains them
  --queue NAME, --redrive  jobs: axon jobs --help explains them
  --config FILE            plan: axon plan --help explains it
  --at, --steps, --wait …  rollout: axon rollout --help explains them
  -h, --help               this text

The key is taken from AXON_KEY; a local stage gives out its own.

Exit codes: 0 done, 1 failed, 2 the command cannot be understood, 130 stopped by Ctrl-C.
`;

const options = {
  url: { type: "string" },
  conversation: { type: "string" },
  model: { type: "string" },
  temperature: { type: "string" },
  "top-p": { type: "string" },
  "min-p": { type: "string" },
  "repetition-penalty": { type: "string" },
  stop: { type: "string", multiple: true },
  "max-tokens": { type: "string" },
  seed: { type: "string" },
  rank: { type: "string" },
  leader: { type: "string" },
  name: { type: "string" },
  yes: { type: "boolean", short: "y", default: false },
  queue: { type: "string" },
  id: { type: "string" },
  reason: { type: "string" },
  steps: { type: "string" },
  bake: { type: "string" },
  request: { type: "string" },
  queued: { type: "boolean", default: false },
  wait: { type: "boolean", default: false },
  at: { type: "string" },
  until: { type: "string" },
  limit: { type: "string" },
  redrive: { type: "boolean", default: false },
  config: { type: "string" },
  json: { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
} as const;

function parse() {
  try {
    return parseArgs({ options, allowPositionals: true });
  } catch (error) {
    throw new CommandError(error instanceof Error ? error.message : String(error), { exitCode: 2 });
  }
}

type Values = ReturnType<typeof parse>["values"];

function numberOf(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) {
    throw new CommandError(`--${name} takes a number, not "${text}".`, { exitCode: 2 });
  }
  return value;
}

/** Loaded only when it is asked for: it brings the engine's readers along. */
async function modelsCommand(
  words: readonly string[],
  { help, name, yes, json }: { help: boolean; name?: string; yes: boolean; json: boolean },
): Promise<number> {
  const { models, modelsHelp } = await import("./models.ts");
  if (!help) return models({ words, name, yes, json });
  process.stdout.write(modelsHelp);
  return 0;
}

/** Loaded only when it is asked for: it brings the client of SQS along. */
async function jobsCommand(
  words: readonly string[],
  options: { help: boolean; queue?: string; redrive: boolean; json: boolean },
): Promise<number> {
  const { jobs, jobsHelp } = await import("./jobs.ts");
  if (!options.help) return jobs({ ...options, words, queue: options.queue });
  process.stdout.write(jobsHelp);
  return 0;
}

/** Loaded only when it is asked for: nothing else needs the tables. */
async function planCommand(
  words: readonly string[],
  { help, config, json }: { help: boolean; config?: string; json: boolean },
): Promise<number> {
  const { plan, planHelp } = await import("./plan.ts");
  if (!help) return plan({ words, config, json });
  process.stdout.write(planHelp);
  return 0;
}

/** Loaded only when it is asked for: it brings the client of Lambda along. */
async function rolloutCommand(
  command: "rollout" | "log replay" | "turn",
  words: readonly string[],
  { help, ...options }: Values,
): Promise<number> {
  const { replay, rollout, rolloutHelp, turn } = await import("./rollout.ts");
  if (help) process.stdout.write(rolloutHelp);
  else if (command === "log replay") return replay(options);
  else if (command === "turn") return turn(words[0], options.json);
  else return rollout(words, options);
  return 0;
}

async function main(): Promise<number> {
  const { values, positionals } = parse();
  const [command, ...words] = positionals;
  if (values.help && command === "worker") {
    process.stdout.write(workerHelp);
    return 0;
  }
  if (command === "models") return modelsCommand(words, values);
  if (command === "jobs") return jobsCommand(words, values);
  if (command === "plan") return planCommand(words, values);
  if (command === "rollout" || command === "turn") return rolloutCommand(command, words, values);
  if (command === "log" && words[0] === "replay") {
    return rolloutCommand("log replay", words.slice(1), values);
  }
  if (values.help || command === undefined) {
    process.stdout.write(help);
    return values.help ? 0 : 2;
  }
  switch (command) {
    case "chat": {
      const sampling = {
        temperature: numberOf("temperature", values.temperature),
        topP: numberOf("top-p", values["top-p"]),
        minP: numberOf("min-p", values["min-p"]),
        repetitionPenalty: numberOf("repetition-penalty", values["repetition-penalty"]),
        stop: values.stop,
        maxTokens: numberOf("max-tokens", values["max-tokens"]),
        seed: numberOf("seed", values.seed),
      };
      const given = Object.entries(sampling).filter(([, value]) => value !== undefined);
      return chat({
        url: values.url,
        prompt: words.join(" "),
        conversationId: values.conversation,
        model: values.model,
        sampling: Object.fromEntries(given),
        json: values.json,
      });
    }
    case "log":
      return log({ url: values.url, stream: words[0], json: values.json });
    case "worker":
      return worker({ rank: values.rank, leader: values.leader, model: values.model });
    default:
      throw new CommandError(`There is no command "${command}". Try axon --help.`, { exitCode: 2 });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof CommandError || error instanceof AxonClientError)) throw error;
  process.stderr.write(`axon: ${error.message}\n`);
  process.exitCode = error instanceof CommandError ? error.exitCode : 1;
}
