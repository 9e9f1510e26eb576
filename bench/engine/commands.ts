import { z } from "zod";

/*
 * What a peer is told on its stdin, a line each, and what it answers on its stdout, a line of JSON
 * each. A peer that waits for its next command computes nothing. When its stdin ends, so does it.
 *
 *   (start)                        { loadMs }                    until it could take a request
 *   decode TOKENS PROMPT …         { tokens, ms, firstTokens }   greedy, all prompts together
 *   prefill PROMPT                 { tokens, ms, firstTokens }   time to the first token
 *   memory                         { bytes }                     in memory, since it began
 *
 * A prompt is token ids with commas between them. A decode has at most 8 prompts of one length and
 * stays below 256 positions, a prefill below 1,280: peers make room for as much. `tokens` were
 * computed in `ms`: for decode those after the first token of each answer, for prefill those of the
 * prompt.
 */
export type TimedCommand =
  | { name: "decode"; tokens: number; prompts: readonly (readonly number[])[] }
  | { name: "prefill"; prompt: readonly number[] };

export type Command = TimedCommand | { name: "memory" };

export const loadedSchema = z.strictObject({ loadMs: z.number().positive() });

export const timedSchema = z.strictObject({
  tokens: z.int().positive(),
  ms: z.number().positive(),
  firstTokens: z.array(z.int().nonnegative()),
});

export type Timed = z.infer<typeof timedSchema>;

export const memorySchema = z.strictObject({ bytes: z.int() });

export function writeCommand(command: Command): string {
  if (command.name === "memory") return "memory\n";
  if (command.name === "prefill") return `prefill ${command.prompt.join()}\n`;
  return `decode ${command.tokens} ${command.prompts.map((prompt) => prompt.join()).join(" ")}\n`;
}

/** Throws on what `writeCommand` does not write. */
export function readCommand(line: string): Command {
  const [name, ...rest] = line.split(" ");
  if (name === "memory") return { name };
  const [prompt = []] = rest.map(tokenIds);
  if (name === "prefill") return { name, prompt };
  if (name === "decode") {
    return { name, tokens: Number(rest[0]), prompts: rest.slice(1).map(tokenIds) };
  }
  throw new Error(`Not a command: ${line.slice(0, 80)}`);
}

function tokenIds(text: string): number[] {
  return text.split(",").map(Number);
}
