/** What stands in place of a text: how long it is, in bytes of UTF-8. */
interface Omitted {
  omitted: number;
}

/**
 * Fields whose values users or the model have written, in events and in the states that they fold to; and the
 * hashes of secrets, which are nobody's to see.
 */
const textFields = new Set([
  ...["prompt", "text", "title", "stop", "content", "systemPrompt"],
  "sha256",
]);

/** A copy without a word of what was asked or answered, at any depth. */
export function omitTexts<T>(value: T): T {
  if (Array.isArray(value)) return value.map(omitTexts) as T;
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([name, field]) => [
    name,
    name === "sealed"
      ? ofSealed(field)
      : textFields.has(name)
        ? omittedOf(field)
        : omitTexts(field as unknown),
  ]);
  return Object.fromEntries(entries) as T;
}

/** Words that stay sealed (events/sealing.ts): of them nothing is shown but about how long they are, too. */
function ofSealed(sealed: unknown): Omitted {
  const { words = "" } = (sealed ?? {}) as { words?: unknown };
  return { omitted: Buffer.byteLength(String(words), "base64") };
}

function omittedOf(text: unknown): unknown {
  if (typeof text === "string") return { omitted: Buffer.byteLength(text) } satisfies Omitted;
  if (Array.isArray(text)) return text.map(omittedOf);
  return omitTexts(text);
}
