import { useEffect, useState } from "react";
import { Icon } from "./icons.tsx";

/** Copies a text, and says for a moment that it did. */
export function CopyButton({ label, text }: { label: string; text: () => string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = () => void navigator.clipboard.writeText(text()).then(() => setCopied(true));
  return (
    <button type="button" className="quiet" onClick={copy} aria-label={copied ? "Copied" : label}>
      <Icon name={copied ? "check" : "copy"} />
    </button>
  );
}
