import { useEffect, useRef, useState } from "react";
import type { Thread, TurnView } from "./chat-state.ts";
import { Icon } from "./icons.tsx";
import { newChatAddress } from "./route.ts";
import { TurnItem } from "./turn-item.tsx";

interface Props {
  thread: Thread | undefined;
  turns: TurnView[];
  onAsk: (prompt: string) => void;
}

const suggestions = [
  "What is Axon?",
  "How does tensor parallelism work?",
  "What happens when a worker dies in the middle of an answer?",
  "Tell me a short story about a lighthouse.",
];

/** The conversation that is shown. It keeps to the end while it grows, unless one scrolls away. */
export function ThreadView({ thread, turns, onAsk }: Props) {
  const pane = useRef<HTMLDivElement>(null);
  const [atEnd, setAtEnd] = useState(true);
  const grown = turns.reduce((size, turn) => size + turn.answer.length + 1, 0);

  // biome-ignore lint/correctness/useExhaustiveDependencies: it scrolls when the thread has grown
  useEffect(() => {
    if (atEnd) pane.current?.scrollTo({ top: pane.current.scrollHeight });
  }, [grown, atEnd]);

  useEffect(() => {
    const toEnd = () => atEnd && pane.current?.scrollTo({ top: pane.current.scrollHeight });
    addEventListener("resize", toEnd);
    return () => removeEventListener("resize", toEnd);
  }, [atEnd]);

  function onScroll() {
    const area = pane.current;
    if (area === null) return;
    setAtEnd(area.scrollHeight - area.scrollTop - area.clientHeight < 60);
  }

  return (
    <div className="thread-frame">
      <div
        className="thread"
        ref={pane}
        onScroll={onScroll}
        role="log"
        aria-live="off"
        aria-label="Conversation"
      >
        {thread?.status === "loading" && <p className="hint">Loading…</p>}
        {thread?.status === "missing" && (
          <p className="hint">
            There is no such conversation. <a href={newChatAddress}>Start a new one.</a>
          </p>
        )}
        {turns.length === 0 && (thread === undefined || thread.status === "ready") && (
          <Welcome onAsk={onAsk} />
        )}
        {turns.map((turn) => (
          <TurnItem key={turn.key} turn={turn} onRetry={onAsk} />
        ))}
      </div>
      {!atEnd && (
        <button type="button" className="to-end" onClick={() => setAtEnd(true)}>
          <Icon name="down" /> Latest
        </button>
      )}
    </div>
  );
}

function Welcome({ onAsk }: { onAsk: (prompt: string) => void }) {
  return (
    <section className="welcome">
      <h1>What would you like to know?</h1>
      <p>
        The model behind this page is small and knows Axon. Its weights are split over ranks that
        agree on every token you read.
      </p>
      <ul>
        {suggestions.map((suggestion) => (
          <li key={suggestion}>
            <button type="button" onClick={() => onAsk(suggestion)}>
              {suggestion}
            </button>
          </li>
        ))}
      </ul>
    </section>
  );
}
