import { TokenizerError } from "./tokenizer-error.ts";

/** SentencePiece itself makes no piece longer than 16 unless told to. */
const maxPieceLength = 512;
const maxTotalLength = 1 << 23;

/**
 * SentencePiece's byte pair encoding has scores instead of merges: of all neighbours that together are
 * a piece, those with the highest score are joined first. Returns the pairs in that order, as
 * transformers' converter derives them (SentencePieceExtractor). Throws TokenizerError.
 */
export function mergesFromScores(
  tokens: readonly string[],
  scores: readonly number[],
  ids: ReadonlyMap<string, number>,
  isPiece: (id: number) => boolean,
): [string, string][] {
  const merges: { pair: [string, string]; score: number; ids: [number, number] }[] = [];
  let totalLength = 0;
  tokens.forEach((text, id) => {
    if (!isPiece(id)) return;
    const score = scores[id] ?? Number.NaN;
    totalLength += text.length;
    if (Number.isNaN(score) || text.length > maxPieceLength || totalLength > maxTotalLength) {
      const message = `Token ${id} of the SentencePiece tokenizer has no score, or is too long.`;
      throw new TokenizerError("invalid_tokenizer", message);
    }
    for (let cut = 1; cut < text.length; cut += 1) {
      const pair: [string, string] = [text.slice(0, cut), text.slice(cut)];
      const [left, right] = [ids.get(pair[0]), ids.get(pair[1])];
      if (left === undefined || right === undefined) continue;
      merges.push({ pair, score, ids: [left, right] });
    }
  });
  // The sort is stable: pairs of one score stay in the order of tokens.
  merges.sort((a, b) => b.score - a.score || a.ids[0] - b.ids[0] || a.ids[1] - b.ids[1]);
  return merges.map(({ pair }) => pair);
}
