import type { ModelConfig } from "../../dataplane/engine/checkpoint/model-config.ts";
import { elementsOf, type WeightSource } from "./checkpoint-writer.ts";

/** The shape of SmolLM2-135M. */
export const smolShape: ModelConfig = {
  architecture: "LlamaForCausalLM",
  vocabularySize: 49_152,
  hiddenSize: 576,
  layers: 30,
  heads: 9,
  keyValueHeads: 3,
  headSize: 64,
  mlpSize: 1536,
  contextLength: 2048,
  normEpsilon: 1e-5,
  rope: { theta: 100_000 },
  tiedEmbeddings: true,
  eosTokens: [],
};

/**
 * Random weights that bf16, and 8 bits with a scale for each 32, both hold exactly: integers of at
 * most ±127 (one of which each 32 weights have) times a power of two. So all engines compute the
 * very same model, whatever they keep it in.
 */
export function randomWeights(seed: number): WeightSource {
  let state = seed;
  // xorshift32 (Marsaglia, "Xorshift RNGs", 2003).
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  return (_, shape) => {
    const values = new Float32Array(elementsOf(shape));
    const inputs = shape[1];
    if (inputs === undefined) return values.fill(1);
    // Uniform integers of ±127 have a standard deviation of about 73.
    const scale = 2 ** Math.round(Math.log2(1 / (73 * Math.sqrt(inputs))));
    for (let i = 0; i < values.length; i += 1) {
      const drawn = (next() % 255) - 127;
      const integer = i % 32 > 0 ? drawn : drawn < 0 ? -127 : 127;
      values[i] = integer * scale;
    }
    return values;
  };
}
