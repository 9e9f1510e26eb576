import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import type { GgufTestValue } from "../support/gguf-bytes.ts";

/** Values of GGUF headers that carry a tokenizer and little else. */

export type TokenizerValues = Record<string, GgufTestValue | number[]>;

const root = join(import.meta.dirname, "..", "..");
const control = 3;
const userDefined = 4;

const byteLevelSchema = z.object({
  added_tokens: z.array(z.object({ id: z.int() })),
  model: z.object({
    vocab: z.record(z.string(), z.int()),
    merges: z.array(z.tuple([z.string(), z.string()])),
  }),
});

const pieceSchema = z.strictObject({
  tokens: z.array(z.string()),
  scores: z.array(z.number()),
  types: z.array(z.int()),
});

const model = {
  "general.architecture": "llama",
  "llama.context_length": 1024,
  "llama.embedding_length": 256,
  "llama.block_count": 1,
  "llama.feed_forward_length": 512,
  "llama.attention.head_count": 8,
  "llama.attention.layer_norm_rms_epsilon": { f32: 1e-5 },
};

/**
 * The bundled model's byte pairs, one token that is defined by the user, and one that no merges
 * lead to.
 */
export function byteLevelValues(pre: string): TokenizerValues {
  const path = join(root, "models", "axon-guide", "tokenizer.json");
  const { added_tokens, model: json } = byteLevelSchema.parse(read(path));
  const tokens = Object.entries(json.vocab).sort(([, a], [, b]) => a - b);
  const special = new Set(added_tokens.map(({ id }) => id));
  const types = tokens.map(([, id]) => (special.has(id) ? control : 1));
  return {
    ...model,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": pre,
    "tokenizer.ggml.tokens": [...tokens.map(([text]) => text), "<tool>", "Ġlighthouse"],
    "tokenizer.ggml.token_type": [...types, userDefined, 1],
    "tokenizer.ggml.merges": json.merges.map((pair) => pair.join(" ")),
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.ggml.eos_token_id": 1,
    "tokenizer.chat_template": "{{ messages[0]['content'] }}",
  };
}

/** 900 pieces, trained with SentencePiece on texts of this repository. */
export function sentencePieceValues(): TokenizerValues {
  const path = join(import.meta.dirname, "sentencepiece-vocabulary.json");
  const { tokens, scores, types } = pieceSchema.parse(read(path));
  return {
    ...model,
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": tokens,
    "tokenizer.ggml.scores": { f32: scores },
    "tokenizer.ggml.token_type": types,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
    "tokenizer.chat_template": "{{ messages[0]['content'] }}",
  };
}

function read(path: string): unknown {
  return JSON.parse(readFileSync(path, "utf8"));
}
