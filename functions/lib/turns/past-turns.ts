import type { ChatMessage } from "../../../events/jobs.ts";
import { streamEndSchema, turnKey, turnTokensKey } from "../../../events/redis-keys.ts";
import { isTerminal } from "../../../events/turn.ts";
import type { Deps } from "../deps.ts";
import { load, turns } from "../streams.ts";

/**
 * A turn as the context of the next one sees it.
 *
 *   absent   the conversation names it, but it was never requested.
 *   running  a leader has it, or will.
 *   ended    the user has read its end. What it said may not have reached the log yet: the report is
 *            on its way, but the token stream is sealed.
 */
export type PastTurn =
  | { status: "absent" }
  | { status: "running" }
  | {
      status: "ended";
      /** Prompt and answer; none for a turn that failed. A cancelled one counts with what it said. */
      messages: ChatMessage[];
    };

/** Looks a turn up in the places that know it first: its log and its token stream. */
export async function pastTurn(
  deps: Pick<Deps, "log" | "redis">,
  turnId: string,
): Promise<PastTurn> {
  const { state } = await load(deps.log, turns, turnId);
  if (state.status === "none") return { status: "absent" };
  if (isTerminal(state)) {
    return { status: "ended", messages: messagesOf(state.prompt, state.text, state.status) };
  }
  const answer = await sealedAnswer(deps, turnId);
  if (answer === undefined) return { status: "running" };
  return { status: "ended", messages: messagesOf(state.prompt, answer.text, answer.finishReason) };
}

/** What an ended turn says to the next one, given how it ended. */
export function messagesOf(prompt: string, answer: string, ending: string): ChatMessage[] {
  if (ending === "failed") return [];
  return [
    { role: "user", content: prompt },
    { role: "assistant", content: answer },
  ];
}

async function sealedAnswer(
  { redis }: Pick<Deps, "redis">,
  turnId: string,
): Promise<{ finishReason: string; text: string } | undefined> {
  if ((await redis.hget(turnKey(turnId), "sealed")) === null) return undefined;
  const entries = await redis.xrange(turnTokensKey(turnId), "-", "+");
  let text = "";
  for (const [, [name, value = ""]] of entries) {
    if (name === "text") text += value;
    if (name !== "end") continue;
    return { finishReason: streamEndSchema.parse(JSON.parse(value)).finishReason, text };
  }
  // The stream expired between the two reads. The log will know soon.
  return undefined;
}
