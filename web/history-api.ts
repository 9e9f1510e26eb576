import type { DoneFrame } from "../events/frames.ts";
import type { Config } from "./config.ts";

/** The record of the past, as `functions/history.ts` gives it. */
export interface ConversationSummary {
  id: string;
  title: string;
  /** Unix time, ms. */
  updatedAt: number;
}

export interface RecordedTurn {
  id: string;
  model: string;
  revision: string;
  status: "requested" | "running" | "completed" | "cancelled" | "failed";
  prompt: string;
  answer: string | null;
  finishReason: DoneFrame["finishReason"] | null;
  usage: DoneFrame["usage"] | null;
  timings: DoneFrame["timings"] | null;
  error: { code: string; message: string } | null;
}

export interface HistoryApi {
  conversations(before?: string): Promise<{
    conversations: ConversationSummary[];
    next: string | null;
  }>;
  /** undefined: there is none (yet: the record follows the log by a moment). */
  turns(conversationId: string): Promise<RecordedTurn[] | undefined>;
  models(): Promise<{ model: string; default: boolean }[]>;
}

export function historyApi(config: Config): HistoryApi {
  async function get(path: string): Promise<unknown> {
    const response = await fetch(config.apiUrl.replace(/\/$/, "") + path, {
      headers: { authorization: `Bearer ${config.credential}` },
    });
    if (response.status === 404) return undefined;
    const body = (await response.json()) as { message?: string };
    if (!response.ok) throw new Error(body.message ?? `The history answered ${response.status}.`);
    return body;
  }
  return {
    async conversations(before) {
      const cursor = before === undefined ? "" : `&before=${encodeURIComponent(before)}`;
      const page = await get(`/conversations?limit=40${cursor}`);
      return page as { conversations: ConversationSummary[]; next: string | null };
    },
    async turns(conversationId) {
      const found = await get(`/conversations/${encodeURIComponent(conversationId)}`);
      return (found as { turns: RecordedTurn[] } | undefined)?.turns;
    },
    async models() {
      return ((await get("/models")) as { models: { model: string; default: boolean }[] }).models;
    },
  };
}
