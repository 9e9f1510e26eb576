import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** As much of node-llama-cpp as we use; `npm run bench:engine` installs it below .axon/bench. */
interface LlamaCpp {
  getLlama(options: object): Promise<{
    loadModel(options: object): Promise<{
      tokenize(text: string, specialTokens: boolean): Iterable<number>;
      dispose(): Promise<void>;
    }>;
    dispose(): Promise<void>;
  }>;
}

const bench = join(import.meta.dirname, "..", "..", ".axon", "bench");
const installed = existsSync(bench)
  ? readdirSync(bench)
      .filter((name) => name.startsWith("node-llama-cpp-"))
      .map((name) => join(bench, name, "node_modules", "node-llama-cpp", "dist", "index.js"))
      .find(existsSync)
  : undefined;

export const llamaCppIsMissing = installed === undefined;

/** Token ids that llama.cpp gives for each of `texts`, by the tokenizer of each GGUF file. */
export async function llamaCppTokens(
  paths: readonly string[],
  texts: readonly string[],
): Promise<number[][][]> {
  const library: LlamaCpp = await import(pathToFileURL(installed ?? "").href);
  const llama = await library.getLlama({ gpu: false, build: "never", logLevel: "disabled" });
  const results: number[][][] = [];
  for (const modelPath of paths) {
    const model = await llama.loadModel({ modelPath, vocabOnly: true });
    results.push(texts.map((text) => [...model.tokenize(text, true)]));
    await model.dispose();
  }
  await llama.dispose();
  return results;
}
