/*
 * The embedded engine as a peer of `npm run bench:engine`, as a group's leader starts it.
 *
 *   axon-peer.ts CHECKPOINT RANKS SLOTS TOKENS_PER_STEP
 */

import { startEmbeddedEngine } from "../../dataplane/engine/embedded.ts";
import { type Peer, servePeer, timeDecode, timeFirstToken } from "./peer-loop.ts";

const [modelDir = "", ranks, slots, tokensPerStep] = process.argv.slice(2);

const sampling = {
  ...{ temperature: 0, topK: 0, topP: 1, minP: 0 },
  ...{ repetitionPenalty: 1, seed: 1 },
};

async function start(): Promise<Peer> {
  const engine = await startEmbeddedEngine({
    modelDir,
    ranks: Number(ranks),
    transport: "threads",
    slots: Number(slots),
    tokensPerStep: Number(tokensPerStep),
    weights: "int8",
  });
  let requests = 0;
  async function* answerTo(promptTokens: readonly number[], maxTokens: number) {
    requests += 1;
    const events = engine.generate({
      id: String(requests),
      promptTokens,
      emittedTokens: [],
      maxTokens,
      sampling,
      signal: new AbortController().signal,
    });
    for await (const event of events) {
      if (event.type === "token") yield event.token;
    }
  }
  return {
    decode: (tokens, prompts) => {
      const answers = prompts.map((prompt) => answerTo(prompt, tokens));
      return timeDecode(answers, tokens);
    },
    prefill: (prompt) => timeFirstToken(() => answerTo(prompt, 1), prompt.length),
    close: () => engine.close(),
  };
}

await servePeer(start);
