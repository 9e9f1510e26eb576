import { type ComponentProps, memo, useRef } from "react";
import Markdown from "react-markdown";
import remarkGfm from "remark-gfm";
import { CopyButton } from "./copy-button.tsx";

/** An answer as Markdown. Raw HTML in it stays text; nothing in it is loaded from elsewhere. */
export const Answer = memo(function Answer({ text }: { text: string }) {
  return (
    <Markdown remarkPlugins={[remarkGfm]} components={{ a: Link, img: ImageLink, pre: CodeBlock }}>
      {text}
    </Markdown>
  );
});

function Link({ href, children }: ComponentProps<"a">) {
  return (
    <a href={href} target="_blank" rel="noopener noreferrer">
      {children}
    </a>
  );
}

/** A picture would tell its host who reads this answer. */
function ImageLink({ src, alt }: ComponentProps<"img">) {
  return <Link href={typeof src === "string" ? src : undefined}>{alt || "picture"}</Link>;
}

function CodeBlock({ children }: ComponentProps<"pre">) {
  const code = useRef<HTMLPreElement>(null);
  return (
    <div className="code-block">
      <CopyButton label="Copy the code" text={() => code.current?.textContent ?? ""} />
      <pre ref={code}>{children}</pre>
    </div>
  );
}
