import { createInterface } from "node:readline/promises";
import { type ChatRequest, type Client, connect } from "../client/client.ts";
import type { TurnUpdate } from "../client/turn.ts";
import { findStage } from "./stage.ts";

export interface ChatCommand {
  url: string | undefined;
  /** Empty: read prompts from the terminal. */
  prompt: string;
  conversationId: string | undefined;
  model: string | undefined;
  sampling: NonNullable<ChatRequest["sampling"]>;
  json: boolean;
}

/** @returns the exit code. */
export async function chat(command: ChatCommand): Promise<number> {
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

async function converse(client: Client, command: ChatCommand): Promise<number> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr, prompt: "› " });
  let { conversationId } = command;
  terminal.prompt();
  for await (const line of terminal) {
    if (line.trim() === "") break;
    const outcome = await ask(client, { ...command, conversationId }, line);
    conversationId = outcome.conversationId ?? conversationId;
    if (outcome.exitCode !== 0) return outcome.exitCode;
    terminal.prompt();
  }
  terminal.close();
  return 0;
}

/** Asks once and writes the answer as it comes. Ctrl-C stops the answer, and keeps what was said. */
async function ask(
  client: Client,
  command: ChatCommand,
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
    if (stopped) process.exit(130);
    stopped = true;
    turn.cancel();
  };
  process.on("SIGINT", stop);
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
    process.off("SIGINT", stop);
  }
  const exitCode = stopped ? 130 : failed ? 1 : 0;
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
