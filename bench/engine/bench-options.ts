import { parseArgs } from "node:util";
import { tokensPerStep } from "../../dataplane/worker-defaults.ts";

export const usage = `npm run bench:engine -- [options]

Measures the embedded engine beside llama.cpp on this machine: the same weights, the same prompts,
the same number of threads, in rounds that take turns. Prints a table in Markdown.

  --rounds N           rounds; the table has their medians (default 4, or 2 with --quick)
  --quick              fewer and shorter measurements
  --ranks N            ranks of the embedded engine, threads of llama.cpp (default 2)
  --tokens-per-step N  that the embedded engine computes at most (default ${tokensPerStep})
  --json               prints JSON, with every single value
  --help

By default the weights are random, in the shape of SmolLM2-135M. AXON_SMOLLM2 may name a checkpoint
of that family, whose weights are then taken.

What is needed beside the project (node-llama-cpp, from npm) is installed below .axon/bench/. Where
there is no network, no g++ or no git, what cannot be had is not measured, and the table says so.`;

export interface BenchOptions {
  rounds: number;
  ranks: number;
  tokensPerStep: number;
  json: boolean;
  /** How often each measurement is taken in a round, with other prompts. */
  samples: number;
  /** Answers that are decoded together. */
  batches: number[];
  /** Lengths of the prompts whose first token is waited for. */
  promptLengths: number[];
  /** Tokens of each decoded answer. */
  decodeTokens: number;
  sourcePath: string | undefined;
}

/** Undefined when help is asked for. Throws on arguments that are not known. */
export function readOptions(args: readonly string[], env: NodeJS.ProcessEnv) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: "string" },
      quick: { type: "boolean", default: false },
      ranks: { type: "string", default: "2" },
      "tokens-per-step": { type: "string", default: String(tokensPerStep) },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return undefined;
  const { quick, json } = values;
  const options: BenchOptions = {
    rounds: positiveInteger("rounds", values.rounds ?? (quick ? "2" : "4")),
    ranks: positiveInteger("ranks", values.ranks),
    tokensPerStep: positiveInteger("tokens-per-step", values["tokens-per-step"]),
    json,
    samples: quick ? 1 : 3,
    batches: quick ? [1, 8] : [1, 4, 8],
    promptLengths: quick ? [128] : [128, 1024],
    decodeTokens: quick ? 32 : 64,
    sourcePath: env["AXON_SMOLLM2"],
  };
  return options;
}

function positiveInteger(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new Error(`--${name} has to be an integer above 0, and is "${text}".`);
}
