import type { EngineEvent, FinishReason } from "../engine/engine.ts";
import type { Piece } from "./completion.ts";
import { ServerError } from "./server.ts";

/** The id of every token of a server that says text: there is no other. */
const textToken = 0;

/**
 * A piece of an answer as events. Several tokens that came with one text: the last of them has it. The
 * token that ends an answer is among vLLM's ids, but not in the text, and is no token of the answer.
 */
export function* eventsOf(
  { text, tokens, finish }: Piece,
  speaks: "ids" | "text",
): Generator<EngineEvent> {
  const said = idsOf(text, tokens, finish, speaks);
  for (const [i, token] of said.entries()) {
    yield { type: "token", token, text: i === said.length - 1 ? text : "" };
  }
  if (finish !== undefined) yield { type: "finish", reason: reasonOf(finish) };
}

function idsOf(
  text: string,
  tokens: readonly number[],
  finish: string | undefined,
  speaks: "ids" | "text",
): readonly number[] {
  if (speaks === "text") return text === "" ? [] : [textToken];
  if (tokens.length === 0 && text !== "") {
    const message = "The server sent text without token ids. AXON_ENGINE=openai takes text.";
    throw new ServerError("fatal", message);
  }
  if (finish !== "stop") return tokens;
  const rest = tokens.slice(0, -1);
  return rest.length === 0 && text !== "" ? tokens : rest;
}

function reasonOf(finish: string): FinishReason {
  if (finish === "stop" || finish === "eos_token" || finish === "stop_sequence") return "stop";
  if (finish === "length") return "length";
  throw new ServerError("fatal", `The server ended the answer for a reason unknown: "${finish}".`);
}

/**
 * The seed for what comes after `count` tokens of an answer. A server begins its random numbers anew with
 * each request: with the same seed, the rest of an answer would be drawn with the numbers that its
 * beginning was drawn with. Another seed for each place, and always the same for one (Knuth's
 * multiplicative hash; 31 bits, which every server takes).
 */
export function seedAfter(seed: number, count: number): number {
  if (count === 0) return seed;
  return (seed + Math.imul(count, 2_654_435_761)) & 0x7fff_ffff;
}
