import { expect } from "vitest";
import { z } from "zod";
import type { Turn } from "../../client/turn.ts";
import { eventually } from "../support/eventually.ts";
import type { SpawnedStage } from "./spawned-stage.ts";

/** What one client has read of a turn. */
export interface Reading {
  turnId: string;
  conversationId: string;
  text: string;
  /** Sequence number of the last token. */
  lastSeq: number;
  finishReason: string;
  /** Pieces in which the text came. */
  pieces: number;
}

/** Reads a turn to its end, and checks that its tokens are 1…n without gap or repeat. */
export async function read(turn: Turn): Promise<Reading> {
  let text = "";
  let seq = 0;
  let pieces = 0;
  for await (const update of turn) {
    if (update.type === "text") {
      expect(update.from).toBe(seq + 1);
      seq = update.to;
      text += update.text;
      pieces++;
    } else if (update.type === "done") {
      expect(update.lastSeq).toBe(seq);
      expect(update.usage.completionTokens).toBe(seq);
      expect(update.text).toBe(text);
      const { turnId = "", conversationId = "" } = turn;
      return {
        ...{ turnId, conversationId, text, pieces, lastSeq: seq },
        finishReason: update.finishReason,
      };
    }
  }
  throw new Error(`Turn ${turn.turnId} has no end.`);
}

const recordSchema = z.object({
  turns: z.array(
    z.looseObject({
      id: z.string(),
      status: z.string(),
      prompt: z.string(),
      answer: z.string().nullable(),
    }),
  ),
});

/** The recorded turn, once the record says that it has ended. */
export function recorded(
  stage: SpawnedStage,
  { conversationId, turnId }: { conversationId: string; turnId: string },
  key?: string,
) {
  return eventually(async () => {
    const { body } = await stage.get(`/api/conversations/${conversationId}`, key);
    const turn = recordSchema.parse(body).turns.find(({ id }) => id === turnId);
    return turn && !["requested", "running"].includes(turn.status) && turn;
  }, 30_000);
}

/** The types of the turn's events, in the order of the log. */
export async function eventsOf(stage: SpawnedStage, turnId: string, key?: string) {
  const { body } = await stage.get(`/api/turns/${turnId}/events`, key);
  return z
    .object({ events: z.array(z.looseObject({ type: z.string() })) })
    .parse(body)
    .events.map(({ type }) => type);
}
