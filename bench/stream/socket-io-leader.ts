import type { Job } from "../../events/jobs.ts";
import type { LeaderOrder } from "./leader.ts";
import { runPart } from "./part-process.ts";
import { startSocketIo } from "./socket-io.ts";
import { stampText } from "./stamp.ts";
import { steadyEngine } from "./steady-engine.ts";

/** The peer's server that emits: the same engine's tokens, each to the room of its turn as it comes. */
runPart<LeaderOrder & { folder: string }, { jobs: Job[] }>(async (order) => {
  const { io } = await startSocketIo(order.folder, order.redisUrl);
  const engine = steadyEngine(order);

  async function say({ turnId }: Job): Promise<void> {
    const events = engine.generate({
      ...{ id: turnId, promptTokens: [1], emittedTokens: [], maxTokens: order.tokens },
      sampling: { temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, seed: 0 },
      signal: new AbortController().signal,
    });
    let seq = 0;
    for await (const event of events) {
      if (event.type === "finish") break;
      seq++;
      io.to(turnId).emit("tokens", { turnId, from: seq, to: seq, text: stampText(event.token) });
    }
    io.to(turnId).emit("end", { turnId, lastSeq: seq });
  }

  return { ready: {}, onMessage: ({ jobs }) => void jobs.map(say) };
});
