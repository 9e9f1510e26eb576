/**
 * How texts are cut before byte pairs are merged, by the names that GGUF files give. A text is cut
 * by the first pattern, each piece by the next; what no pattern matches is a piece, too. After
 * `llama_vocab` of llama.cpp (https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp).
 */
export interface PreTokenizer {
  patterns: readonly string[];
  /** A piece that is a token is taken as it is, whatever its merges would make of it. */
  wholePieces: boolean;
  /** Whether prompts begin with the token for it, unless the file says otherwise. */
  addsBegin: boolean;
}

const words = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";
const wordsOfLlama3 =
  "'(?:[sS]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" +
  "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const byDefault: PreTokenizer = {
  patterns: ["[\\p{P}\\$\\+<=>\\^~\\|]+", words, "\\p{N}+", "[0-9][0-9][0-9]"],
  wholePieces: false,
  addsBegin: false,
};
const gpt2: PreTokenizer = { patterns: [words], wholePieces: false, addsBegin: false };
const singleDigits: PreTokenizer = {
  patterns: ["\\p{N}", words],
  wholePieces: false,
  addsBegin: false,
};
const llama3: PreTokenizer = { patterns: [wordsOfLlama3], wholePieces: true, addsBegin: true };
const smaug: PreTokenizer = { patterns: [wordsOfLlama3], wholePieces: false, addsBegin: false };

export const preTokenizers: ReadonlyMap<string, PreTokenizer> = new Map([
  ["default", byDefault],
  ["gpt-2", gpt2],
  ["smollm", singleDigits],
  ["starcoder", singleDigits],
  ["llama-bpe", llama3],
  ["llama-v3", llama3],
  ["llama3", llama3],
  ["smaug-bpe", smaug],
]);
