import type { GgufMetadata } from "./engine/checkpoint/gguf-metadata.ts";
import { preTokenizers } from "./pre-tokenizers.ts";
import { mergesFromScores } from "./sentencepiece-merges.ts";
import { TokenizerError } from "./tokenizer-error.ts";
import type { AddedToken, TokenizerFiles } from "./tokenizer-files.ts";

/** More than any model has. */
const maxTokens = 1 << 20;
const maxMerges = 1 << 21;

/** Types of tokens, by GGUF's numbers. */
const tokenTypes = { normal: 1, unknown: 2, control: 3, userDefined: 4, byte: 6 } as const;

/** What both kinds of vocabulary have. */
interface Vocabulary {
  tokens: string[];
  /** One of `tokenTypes` for each token, as far as the file tells. */
  types: number[];
  addedTokens: AddedToken[];
}

/**
 * The tokenizer that a GGUF file carries (`tokenizer.ggml.*`), in the form of tokenizer.json and
 * tokenizer_config.json. Throws TokenizerError, or EngineError for a value of a wrong type.
 */
export function ggufTokenizer(metadata: GgufMetadata): TokenizerFiles {
  const model = metadata.string("tokenizer.ggml.model");
  if (model === undefined) {
    throw new TokenizerError("tokenizer_missing", "The GGUF file carries no tokenizer.");
  }
  if (model !== "gpt2" && model !== "llama") {
    throw unsupported("tokenizer.ggml.model", model, ["gpt2", "llama"]);
  }
  const vocabulary = readVocabulary(metadata);
  const { json, addsBegin } =
    model === "gpt2" ? byteLevel(metadata, vocabulary) : sentencePiece(metadata, vocabulary);
  const textOf = (name: string) => vocabulary.tokens[tokenId(metadata, vocabulary, name) ?? -1];
  const beginId = tokenId(metadata, vocabulary, "bos");
  const template = metadata.string("tokenizer.chat_template");
  return {
    json: { added_tokens: vocabulary.addedTokens, post_processor: null, ...json },
    config: {
      chat_template: template,
      bos_token: textOf("bos"),
      eos_token: textOf("eos"),
      clean_up_tokenization_spaces: false,
    },
    ...((metadata.boolean("tokenizer.ggml.add_bos_token") ?? addsBegin) && { beginId }),
  };
}

function readVocabulary(metadata: GgufMetadata): Vocabulary {
  const count = metadata.count("tokenizer.ggml.tokens") ?? 0;
  if (count === 0 || count > maxTokens) {
    throw invalid(`it has ${count} tokens, and may have 1 to ${maxTokens}`);
  }
  const tokens = (metadata.strings("tokenizer.ggml.tokens") ?? []).map((text, id) => {
    return text === "" ? `[EMPTY_${id}]` : text;
  });
  if (new Set(tokens).size !== count) throw invalid("two of its tokens have the same text");
  const types =
    metadata.numbers("tokenizer.ggml.token_type", count) ??
    new Array<number>(count).fill(tokenTypes.normal);
  const vocabulary = { tokens, types, addedTokens: [] };
  const markers = ["bos", "eos", "eot", "eom"].map((name) => tokenId(metadata, vocabulary, name));
  return { ...vocabulary, addedTokens: addedTokens(tokens, types, new Set(markers)) };
}

/** Found in a text before anything else. Special ones stand for no text. */
function addedTokens(
  tokens: readonly string[],
  types: readonly number[],
  markers: ReadonlySet<number | undefined>,
): AddedToken[] {
  const { unknown, control, userDefined } = tokenTypes;
  return tokens.flatMap((content, id) => {
    const type = types[id];
    const special = type === control || type === unknown || markers.has(id);
    if (!special && type !== userDefined) return [];
    const exact = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    return [{ id, content, special, ...exact }];
  });
}

/** The id that `tokenizer.ggml.<name>_token_id` gives. */
function tokenId(metadata: GgufMetadata, { tokens }: Vocabulary, name: string): number | undefined {
  const id = metadata.integer(`tokenizer.ggml.${name}_token_id`);
  if (id === undefined || (id >= 0 && id < tokens.length)) return id;
  throw invalid(`its ${name} token is ${id}, of ${tokens.length}`);
}

/** Byte pairs of UTF-8, as GPT-2 brought them. */
function byteLevel(metadata: GgufMetadata, { tokens }: Vocabulary) {
  const name = metadata.string("tokenizer.ggml.pre") ?? "default";
  const preTokenizer = preTokenizers.get(name);
  if (preTokenizer === undefined) {
    throw unsupported("tokenizer.ggml.pre", name, [...preTokenizers.keys()]);
  }
  const { patterns, wholePieces, addsBegin } = preTokenizer;
  const splits = patterns.map((Regex) => {
    return { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false };
  });
  const bytes = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true };
  const json = {
    normalizer: null,
    pre_tokenizer: { type: "Sequence", pretokenizers: [...splits, { ...bytes, use_regex: false }] },
    decoder: { ...bytes, use_regex: true },
    model: {
      type: "BPE",
      vocab: idsByText(tokens),
      merges: readMerges(metadata),
      ignore_merges: wholePieces,
      byte_fallback: false,
      unk_token: null,
    },
  };
  return { json, addsBegin };
}

function readMerges(metadata: GgufMetadata): [string, string][] {
  const count = metadata.count("tokenizer.ggml.merges");
  if (count === undefined) throw invalid("it has no merges");
  if (count > maxMerges) throw invalid(`it has ${count} merges, and may have ${maxMerges}`);
  return (metadata.strings("tokenizer.ggml.merges") ?? []).map((merge) => {
    const space = merge.indexOf(" ", 1);
    if (space < 0) throw invalid(`its merge ${JSON.stringify(merge.slice(0, 40))} is no pair`);
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
}

/** Pieces of SentencePiece, spaces as U+2581; what no token has is written in bytes. */
function sentencePiece(metadata: GgufMetadata, vocabulary: Vocabulary) {
  const { tokens, types } = vocabulary;
  const scores = metadata.numbers("tokenizer.ggml.scores", tokens.length);
  if (scores === undefined) throw invalid("it has no scores");
  const ids = new Map(tokens.map((text, id) => [text, id]));
  const isPiece = (id: number) => {
    return types[id] === tokenTypes.normal || types[id] === tokenTypes.userDefined;
  };
  const space = "\u2581";
  const prefixed = metadata.boolean("tokenizer.ggml.add_space_prefix") ?? true;
  const replace = { type: "Replace", pattern: { String: " " }, content: space };
  const restore = { type: "Replace", pattern: { String: space }, content: " " };
  const unknown = tokens[tokenId(metadata, vocabulary, "unknown") ?? -1] ?? null;
  const json = {
    normalizer: {
      type: "Sequence",
      normalizers: [...(prefixed ? [{ type: "Prepend", prepend: space }] : []), replace],
    },
    pre_tokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        restore,
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(prefixed ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      type: "BPE",
      vocab: idsByText(tokens),
      merges: mergesFromScores(tokens, scores, ids, isPiece),
      byte_fallback: true,
      fuse_unk: true,
      unk_token: unknown,
    },
  };
  return { json, addsBegin: true };
}

/** Own properties only: a token may be called "__proto__". */
function idsByText(tokens: readonly string[]): Record<string, number> {
  return Object.fromEntries(tokens.map((text, id) => [text, id]));
}

function invalid(reason: string): TokenizerError {
  return new TokenizerError("invalid_tokenizer", `The tokenizer of the GGUF file: ${reason}.`);
}

function unsupported(key: string, found: string, supported: string[]): TokenizerError {
  const message = `${key} is ${JSON.stringify(found.slice(0, 80))}; supported: ${supported.join(", ")}.`;
  return new TokenizerError("unsupported_tokenizer", message);
}
