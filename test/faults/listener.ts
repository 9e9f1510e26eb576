import { AxonClientError, type ChatRequest, type Client, type Turn } from "../../client/client.ts";

/** What a client has heard of one turn, and everything about it that must not be. */
export interface Heard {
  turnId: string;
  conversationId: string;
  text: string;
  finishReason: string;
  rewinds: number;
  /** From the request to the first token. */
  firstTokenMs: number;
  /** The longest time without a word within the answer. */
  silenceMs: number;
  /** When that ended, Unix time in ms, to be found in the logs. */
  silentUntil: number;
  problems: string[];
}

/** A request that is refused for now is sent again, as the protocol says, until this long after. */
const patienceMs = 180_000;
const againMs = 500;

/** Asks until it is answered: the same request, under the same id. */
export async function ask(client: Client, request: ChatRequest): Promise<Heard> {
  const askedAt = performance.now();
  const requestId = crypto.randomUUID();
  for (;;) {
    try {
      return await listen(client.chat({ ...request, requestId }), askedAt);
    } catch (error) {
      const mayPass = error instanceof AxonClientError && error.retryable;
      if (!mayPass || performance.now() - askedAt > patienceMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, error.retryAfterMs ?? againMs));
    }
  }
}

/** Reads a turn to its end: its tokens are 1…n, each once and in order, but for what is taken back. */
async function listen(turn: Turn, askedAt: number): Promise<Heard> {
  const problems: string[] = [];
  let [text, seq, rewinds, silenceMs, silentUntil] = ["", 0, 0, 0, 0];
  let firstTokenMs: number | undefined;
  let heardAt = askedAt;
  for await (const update of turn) {
    const now = performance.now();
    if (update.type === "text") {
      if (update.from > seq + 1) problems.push(`lost: after ${seq} came ${update.from}`);
      if (update.from < seq + 1) problems.push(`repeated: after ${seq} came ${update.from}`);
      if (update.to < update.from) problems.push(`out of order: ${update.from} to ${update.to}`);
      seq = update.to;
      text += update.text;
      if (firstTokenMs === undefined) firstTokenMs = now - askedAt;
      else if (now - heardAt > silenceMs) {
        silenceMs = now - heardAt;
        silentUntil = Date.now();
      }
      heardAt = now;
    } else if (update.type === "rewind") {
      if (update.to > seq) problems.push(`rewound from ${seq} forward to ${update.to}`);
      seq = update.to;
      text = update.text;
      rewinds++;
    } else if (update.type === "done") {
      if (update.lastSeq !== seq) problems.push(`ended at ${update.lastSeq} after ${seq}`);
      if (update.text !== text) problems.push("its pieces are not its text");
      if (update.usage.completionTokens !== seq) problems.push("its usage is not its length");
      const { turnId = "", conversationId = "" } = turn;
      return {
        ...{ turnId, conversationId, text, finishReason: update.finishReason },
        ...{ rewinds, firstTokenMs: firstTokenMs ?? 0, silenceMs, silentUntil, problems },
      };
    }
  }
  throw new Error(`Turn ${turn.turnId} has no end.`);
}
