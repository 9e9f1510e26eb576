import { omittedBytes } from "./omitted.ts";

/** Data as it is, with the texts that are left out said in words. */
export function JsonView({ label, value }: { label: string; value: unknown }) {
  return (
    // biome-ignore lint/a11y/useSemanticElements: it is no part of the page's outline
    <pre
      className="json"
      role="region"
      aria-label={label}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: the arrow keys scroll it
      tabIndex={0}
    >
      {JSON.stringify(value, withoutTexts, 2)}
    </pre>
  );
}

function withoutTexts(_key: string, value: unknown): unknown {
  const bytes = omittedBytes(value);
  return bytes === undefined ? value : `(text of ${bytes.toLocaleString("en")} bytes)`;
}
