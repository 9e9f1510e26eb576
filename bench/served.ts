import { parseArgs } from "node:util";
import type { Engine } from "../dataplane/engine/engine.ts";
import { startServedEngine } from "../dataplane/openai/start-served-engine.ts";
import { readDirectly } from "./served/direct-reader.ts";
import { type Arrivals, latenciesOf, quantile, table } from "./statistics.ts";

const usage = `npm run bench:served -- --url URL [options]

What a leader's engine adds to the vLLM server behind it: the same prompts, of random tokens, asked for
through the engine and by a plain reader of the server's events, in turns. Prints a table in Markdown.

  --url URL          where vLLM serves (needed)
  --concurrency LIST requests at the same time (default 1,8,64)
  --tokens N         of each answer (default 128)
  --prompt N         tokens of each prompt (default 128)
  --vocabulary N     prompts are made of tokens below it (default 2000)
  --rounds N         (default 3)
  --help`;

const { values } = parseArgs({
  options: {
    url: { type: "string" },
    concurrency: { type: "string", default: "1,8,64" },
    tokens: { type: "string", default: "128" },
    prompt: { type: "string", default: "128" },
    vocabulary: { type: "string", default: "2000" },
    rounds: { type: "string", default: "3" },
    help: { type: "boolean", default: false },
  },
});
const { url } = values;
if (values.help || url === undefined) {
  console.log(usage);
  process.exit(values.help ? 0 : 2);
}
const maxTokens = Number(values.tokens);
const promptLength = Number(values.prompt);
const vocabulary = Number(values.vocabulary);

const sampling = {
  ...{ temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
};

/** Asks once; the time of each token, ms since then. */
type Ask = (promptTokens: readonly number[], seed: number) => Promise<Arrivals>;

function throughEngine(engine: Engine): Ask {
  return async (promptTokens, seed) => {
    const begun = performance.now();
    const arrivals: Arrivals = [];
    const request = {
      ...{ id: "bench", promptTokens, emittedTokens: [], maxTokens },
      ...{ sampling: { ...sampling, seed }, signal: new AbortController().signal },
    };
    for await (const event of engine.generate(request)) {
      if (event.type === "token") arrivals.push(performance.now() - begun);
    }
    return arrivals;
  };
}

/** Random, so that nothing of a prompt is found in the server's cache. */
const randomPrompt = () =>
  Array.from({ length: promptLength }, () => 2 + Math.floor(Math.random() * (vocabulary - 2)));

interface Round {
  answers: Arrivals[];
  wallMs: number;
}

async function ask(one: Ask, concurrency: number): Promise<Round> {
  const begun = performance.now();
  const answers = await Promise.all(
    Array.from({ length: concurrency }, (_, i) => one(randomPrompt(), i)),
  );
  return { answers, wallMs: performance.now() - begun };
}

const { engine } = await startServedEngine({
  ...{ kind: "vllm", url, slots: 256, ranks: 1, stallMs: 60_000, readyMs: 60_000 },
  note: () => {},
});
const model = engine.describe().model;
const ways: Record<string, Ask> = {
  "the server's own stream": (promptTokens, seed) =>
    readDirectly(url, { model, prompt: promptTokens, max_tokens: maxTokens, temperature: 1, seed }),
  "the leader's engine": throughEngine(engine),
};

const rows: string[][] = [];
for (const concurrency of values.concurrency.split(",").map(Number)) {
  const rounds = new Map<string, Round[]>(Object.keys(ways).map((name) => [name, []]));
  for (const way of Object.values(ways)) await ask(way, concurrency);
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [name, way] of Object.entries(ways)) {
      rounds.get(name)?.push(await ask(way, concurrency));
    }
  }
  for (const [name, measured] of rounds) rows.push(rowOf(concurrency, name, measured));
}
await engine.close();

function rowOf(concurrency: number, name: string, rounds: readonly Round[]): string[] {
  const answers = rounds.flatMap((round) => round.answers);
  const wallMs = rounds.reduce((sum, round) => sum + round.wallMs, 0);
  const { firstTokenMs, interTokenMs, tokensPerSecond } = latenciesOf(answers, wallMs);
  const both = (times: readonly number[]) =>
    `${quantile(times, 0.5).toFixed(2)} / ${quantile(times, 0.99).toFixed(2)}`;
  const cells = [both(firstTokenMs), both(interTokenMs), tokensPerSecond.toFixed(0)];
  return [String(concurrency), name, ...cells];
}

const head = [
  "requests",
  "read through",
  "first token ms p50 / p99",
  "between tokens ms p50 / p99",
];
console.log(table([...head, "tokens/s"], rows));
