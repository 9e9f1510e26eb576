import { createInterface } from "node:readline";
import { readCommand, type Timed } from "./commands.ts";

/** What a peer that runs in Node does for each command (commands.ts). */
export interface Peer {
  decode(tokens: number, prompts: readonly (readonly number[])[]): Promise<Timed>;
  prefill(prompt: readonly number[]): Promise<Timed>;
  close(): Promise<void>;
}

/** Starts the peer, and serves commands until stdin ends. */
export async function servePeer(start: () => Promise<Peer>): Promise<void> {
  const residentAtStart = process.memoryUsage.rss();
  const startedAt = performance.now();
  const peer = await start();
  answer({ loadMs: performance.now() - startedAt });
  for await (const line of createInterface({ input: process.stdin })) {
    const command = readCommand(line);
    if (command.name === "memory") answer({ bytes: process.memoryUsage.rss() - residentAtStart });
    else if (command.name === "prefill") answer(await peer.prefill(command.prompt));
    else answer(await peer.decode(command.tokens, command.prompts));
  }
  await peer.close();
}

function answer(content: object): void {
  process.stdout.write(`${JSON.stringify(content)}\n`);
}

/**
 * Runs all answers, which yield their tokens, at the same time. What is counted begins when the
 * last of them has its first token. Throws when one has less than `tokens` tokens.
 */
export async function timeDecode(
  answers: readonly AsyncIterable<number>[],
  tokens: number,
): Promise<Timed> {
  const arrivals: number[] = [];
  const firsts = await Promise.all(
    answers.map(async (tokensOf) => {
      const answerArrivals: number[] = [];
      let first: number | undefined;
      for await (const token of tokensOf) {
        first ??= token;
        answerArrivals.push(performance.now());
        if (answerArrivals.length === tokens) break;
      }
      if (answerArrivals.length < tokens || first === undefined) {
        throw new Error(`An answer ended after ${answerArrivals.length} of ${tokens} tokens.`);
      }
      arrivals.push(...answerArrivals);
      return { token: first, at: answerArrivals[0] ?? 0 };
    }),
  );
  const startedAt = Math.max(...firsts.map(({ at }) => at));
  const counted = arrivals.filter((at) => at > startedAt).length;
  const ms = Math.max(...arrivals) - startedAt;
  return { tokens: counted, ms, firstTokens: firsts.map(({ token }) => token) };
}

/** Time until the answer to a prompt begins. */
export async function timeFirstToken(
  answerTo: () => AsyncIterable<number>,
  promptLength: number,
): Promise<Timed> {
  const startedAt = performance.now();
  for await (const token of answerTo()) {
    return { tokens: promptLength, ms: performance.now() - startedAt, firstTokens: [token] };
  }
  throw new Error("The answer has no token.");
}
