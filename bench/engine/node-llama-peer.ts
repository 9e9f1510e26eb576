/*
 * node-llama-cpp as a peer of `npm run bench:engine`, through what it documents for token ids: a
 * sequence of a context evaluates them and yields the tokens of the answer.
 *
 *   node-llama-peer.ts PACKAGE_FOLDER MODEL.gguf THREADS
 */

import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { Peer } from "./peer-loop.ts";
import { servePeer, timeDecode, timeFirstToken } from "./peer-loop.ts";

/** As much of node-llama-cpp 3.22 as is used here; it is installed apart from the project. */
interface NodeLlama {
  getLlama(options: object): Promise<{
    loadModel(options: object): Promise<{
      createContext(options: object): Promise<Context>;
    }>;
  }>;
}

interface Context {
  getSequence(): Sequence;
  dispose(): Promise<void>;
}

interface Sequence {
  clearHistory(): Promise<void>;
  evaluate(tokens: readonly number[], options: object): AsyncIterable<number>;
}

const [packageFolder = "", modelPath = "", threads] = process.argv.slice(2);

async function start(): Promise<Peer> {
  const entry = pathToFileURL(join(packageFolder, "dist", "index.js"));
  const { getLlama } = (await import(entry.href)) as NodeLlama;

  const llama = await getLlama({
    ...{ gpu: false, build: "never", skipDownload: true, maxThreads: 0, logLevel: "error" },
  });
  const model = await llama.loadModel({ modelPath });
  const contexts = new Map<string, Sequence[]>();
  /** Sequences of a context that is made for so many, emptied. */
  const sequencesOf = async (count: number, positions: number, batchSize: number) => {
    const key = `${count} ${positions} ${batchSize}`;
    let sequences = contexts.get(key);
    if (sequences === undefined) {
      const options = {
        sequences: count,
        contextSize: positions,
        batchSize,
        threads: Number(threads),
      };
      const context = await model.createContext(options);
      sequences = Array.from({ length: count }, () => context.getSequence());
      contexts.set(key, sequences);
    }
    for (const sequence of sequences) await sequence.clearHistory();
    return sequences;
  };
  const greedy = { temperature: 0, yieldEogToken: true };
  await sequencesOf(8, 256, 512);
  return {
    async decode(tokens, prompts) {
      const sequences = await sequencesOf(prompts.length, 256, 512);
      const answers = sequences.map((sequence, i) => sequence.evaluate(prompts[i] ?? [], greedy));
      return timeDecode(answers, tokens);
    },
    async prefill(prompt) {
      const [sequence] = await sequencesOf(1, 1280, 512);
      if (sequence === undefined) throw new Error("The context has no sequence.");
      return timeFirstToken(() => sequence.evaluate(prompt, greedy), prompt.length);
    },
    close: async () => process.exit(0),
  };
}

await servePeer(start);
