import type { Random } from "./random.ts";

/**
 * What a model says to a prompt. One like the embedded engine says the same wherever it goes on; one of
 * which `dependsOnLeader` is true says other words after a takeover, and comes to another end, as vLLM
 * may: so a wrong splice shows.
 */
export interface Answer {
  tokens: number;
  dependsOnLeader: boolean;
  msPerToken: number;
}

/** The token in place `seq`, or undefined after the last; `voice` is the leader's. */
export function sayToken(
  { tokens, dependsOnLeader }: Answer,
  seq: number,
  voice: number,
): { text: string; token: number } | undefined {
  const last = dependsOnLeader ? Math.max(1, tokens + (voice % 5) - 2) : tokens;
  if (seq > last) return undefined;
  const mark = dependsOnLeader ? String.fromCharCode(97 + (voice % 26)) : "";
  return { text: `${seq}${mark} `, token: seq };
}

export function drawAnswer(random: Random, dependsOnLeader: boolean): Answer {
  const msPerToken = random.between(10, 150);
  return { tokens: random.whole(1, 40), dependsOnLeader, msPerToken };
}
