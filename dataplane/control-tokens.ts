const wordJoiner = "\u2060";

/**
 * Makes control tokens that a user typed into plain text, so that nobody can end their own message
 * and speak as the system: an invisible word joiner after the first character of each keeps the
 * tokenizer from finding it. A token that cannot be broken up so (it is one character, or has a word
 * joiner itself) is taken out, and first, for what is taken out may bring others together.
 */
export function defuse(content: string, specialTokens: readonly string[]): string {
  const isBreakable = (token: string) => [...token].length > 1 && !token.includes(wordJoiner);
  let text = content;
  for (const token of specialTokens.filter((other) => !isBreakable(other))) {
    while (text.includes(token)) text = text.replaceAll(token, "");
  }
  for (const token of specialTokens.filter(isBreakable)) {
    const [first = "", ...rest] = token;
    const broken = first + wordJoiner + rest.join("");
    while (text.includes(token)) text = text.replaceAll(token, broken);
  }
  return text;
}
