import { type ChatRequest, type Client, connect } from "../client/client.ts";
import type { TurnUpdate } from "../client/turn.ts";
import { askOnAndOn } from "./ask.ts";
import { defineCommand, exitCodesHelp, given, numberOf } from "./command.ts";
import { onInterrupt } from "./interrupts.ts";
import { findStage } from "./stage.ts";

interface ChatRun {
  url: string | undefined;
  /** Empty: read prompts from the terminal. */
  prompt: string;
  conversationId: string | undefined;
  model: string | undefined;
  sampling: NonNullable<ChatRequest["sampling"]>;
  json: boolean;
}

export const chatCommand = defineCommand({
  help: `axon chat: ask, and read the answer as it comes.

  axon chat "…"   one question
  axon chat       on and on, in one conversation; an empty line or Ctrl-D ends it

Ctrl-C stops the answer, and keeps what was said.

Options
  --url URL                where Axon is (default: AXON_URL, or what \`npm start\` runs)
  --conversation ID        go on with a conversation
  --model NAME             which model to ask
  --temperature N          0 is greedy
  --top-p P                only the likeliest tokens that add up to P
  --min-p P                only tokens at least P times as probable as the likeliest
  --repetition-penalty N   above 1 makes words that were there before less likely
  --stop TEXT              the answer ends before this text; up to 4 times
  --max-tokens N           the longest answer
  --seed N                 the same seed gives the same answer
  --json                   updates, as one JSON object a line
  -h, --help               this text

The key is taken from AXON_KEY; a local stage gives out its own.

${exitCodesHelp}`,
  options: {
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
    json: { type: "boolean", default: false },
  },
  async run(words, values) {
    const sampling = {
      temperature: numberOf("temperature", values.temperature),
      topP: numberOf("top-p", values["top-p"]),
      minP: numberOf("min-p", values["min-p"]),
      repetitionPenalty: numberOf("repetition-penalty", values["repetition-penalty"]),
      stop: values.stop,
      maxTokens: numberOf("max-tokens", values["max-tokens"]),
      seed: numberOf("seed", values.seed),
    };
    const { url, conversation: conversationId, model, json } = values;
    const prompt = words.join(" ");
    return chat({ url, prompt, conversationId, model, sampling: given(sampling), json });
  },
});

/** @returns the exit code. */
async function chat(command: ChatRun): Promise<number> {
  const stage = await findStage(command.url);
  const client = connect({
    url: stage.webSocketUrl,
    credential: stage.credential,
    onState: (state) => {
      if (state === "reconnecting") process.stderr.write("\n(reconnecting…)\n");
    },
  });
  try {
    if (command.prompt !== "") return (await ask(client, command, command.prompt)).exitCode;
    return await converse(client, command);
  } finally {
    client.close();
  }
}

/** An answer that is stopped ends nothing but itself. */
async function converse(client: Client, command: ChatRun): Promise<number> {
  let { conversationId } = command;
  let exitCode = 0;
  const { isInterrupted } = await askOnAndOn(async (prompt) => {
    const outcome = await ask(client, { ...command, conversationId }, prompt);
    conversationId = outcome.conversationId ?? conversationId;
    if (outcome.exitCode !== stoppedCode) exitCode = outcome.exitCode;
    return exitCode === 0;
  });
  return isInterrupted ? stoppedCode : exitCode;
}

/** By Ctrl-C. */
const stoppedCode = 130;

/** Asks once and writes the answer as it comes. Ctrl-C stops the answer, and keeps what was said. */
async function ask(
  client: Client,
  command: ChatRun,
  prompt: string,
): Promise<{ exitCode: number; conversationId: string | undefined }> {
  const { conversationId, model, sampling, json } = command;
  const turn = client.chat({
    ...{ prompt, sampling },
    ...(conversationId === undefined ? {} : { conversationId }),
    ...(model === undefined ? {} : { model }),
  });
  let stopped = false;
  const stop = () => {
    if (stopped) process.exit(stoppedCode);
    stopped = true;
    turn.cancel();
  };
  const deaf = onInterrupt(stop);
  const askedAt = performance.now();
  let firstAt: number | undefined;
  let failed = false;
  try {
    for await (const update of turn) {
      if (update.type === "text") firstAt ??= performance.now();
      if (update.type === "done") failed = update.finishReason === "failed";
      if (json) process.stdout.write(`${JSON.stringify(update)}\n`);
      else write(update, { askedAt, firstAt });
    }
  } finally {
    deaf();
  }
  const exitCode = stopped ? stoppedCode : failed ? 1 : 0;
  return { exitCode, conversationId: turn.conversationId };
}

function write(update: TurnUpdate, at: { askedAt: number; firstAt: number | undefined }): void {
  switch (update.type) {
    case "accepted":
      if (update.queue !== undefined) {
        const { position, estimatedWaitMs } = update.queue;
        const seconds = Math.ceil(estimatedWaitMs / 1_000);
        process.stderr.write(`(number ${position} in the queue, about ${seconds} s)\n`);
      }
      if (update.warming !== undefined) {
        const seconds = Math.ceil(update.warming.estimatedMs / 1_000);
        process.stderr.write(`(the model is being loaded, about ${seconds} s)\n`);
      }
      return;
    case "text":
      process.stdout.write(update.text);
      return;
    case "rewind":
      // A terminal cannot take words back: the answer so far is written anew.
      process.stdout.write(`\n\n(taken back to:)\n${update.text}`);
      return;
    case "done": {
      process.stdout.write("\n");
      if (update.error !== undefined) process.stderr.write(`axon: ${update.error.message}\n`);
      process.stderr.write(`${figures(update, at)}\n`);
    }
  }
}

/** One line under the answer: how many tokens, how fast, and how soon the first one came. */
function figures(
  { usage, finishReason }: TurnUpdate & { type: "done" },
  { askedAt, firstAt }: { askedAt: number; firstAt: number | undefined },
): string {
  const tokens = usage.completionTokens;
  const seconds = firstAt === undefined ? 0 : (performance.now() - firstAt) / 1_000;
  const rate =
    tokens > 1 && seconds > 0 ? ` · ${((tokens - 1) / seconds).toFixed(1)} tokens/s` : "";
  const first = firstAt === undefined ? "" : ` · first after ${Math.round(firstAt - askedAt)} ms`;
  const reason = finishReason === "stop" ? "" : ` · ${finishReason}`;
  return `(${tokens} tokens${rate}${first}${reason})`;
}
