/** One selector of a query, and by what its result is grouped. */
export interface PromSelector {
  name: string;
  matchers: { label: string; value: string }[];
  by: string[];
}

const tokens =
  /"(?:[^"\\]|\\.)*"|\[[^\]]*\]|[a-zA-Z_:][\w:]*|\$\w+|\d+(?:\.\d+)?(?:e[+-]?\d+)?|=~|!~|!=|>=|<=|==|[-+*/%<>=(){},]/g;
const words = new Set(["and", "or", "unless", "by", "without", "on", "ignoring", "bool"]);
const functions = new Set([
  "sum",
  "max",
  "min",
  "avg",
  "rate",
  "increase",
  "histogram_quantile",
  "absent",
]);

/**
 * Finds the selectors of a query in PromQL, by the part of its grammar that ours use.
 * @throws Error where there is something else in it, or brackets do not match
 */
export function selectorsIn(query: string): PromSelector[] {
  const found: string[] = query.match(tokens) ?? [];
  const rest = query.replace(tokens, "").trim();
  if (rest !== "") throw new Error(`${rest} cannot be read: ${query}`);
  const selectors: PromSelector[] = [];
  /** Of each open bracket, by what it is grouped. */
  const open: string[][] = [];
  let by: string[] = [];
  for (let i = 0; i < found.length; i++) {
    const token = found[i] ?? "";
    if (token === "by") {
      const end = found.indexOf(")", i);
      by = found.slice(i + 2, end).filter((one) => one !== ",");
      i = end;
    } else if (token === "(") {
      open.push(by);
      by = [];
    } else if (token === ")") {
      if (open.pop() === undefined) throw new Error(`A bracket is closed twice: ${query}`);
    } else if (/^[a-zA-Z_]/.test(token) && !words.has(token)) {
      if (functions.has(token)) {
        if (found[i + 1] !== "(" && found[i + 1] !== "by") throw new Error(`${token}: ${query}`);
        continue;
      }
      const end = found[i + 1] === "{" ? found.indexOf("}", i) : i;
      selectors.push({
        name: token,
        matchers: matchersOf(found.slice(i + 2, end)),
        by: open.flat(),
      });
      i = end;
    }
  }
  if (open.length > 0) throw new Error(`A bracket is not closed: ${query}`);
  return selectors;
}

/** `label = "value" , …` */
function matchersOf(tokensOf: string[]): PromSelector["matchers"] {
  const matchers: PromSelector["matchers"] = [];
  for (let i = 0; i + 2 < tokensOf.length; i += 4) {
    const [label = "", , value = ""] = tokensOf.slice(i, i + 3);
    matchers.push({ label, value: value.slice(1, -1) });
  }
  return matchers;
}
