import { type KeyboardEvent, type RefObject, useEffect, useRef, useState } from "react";
import { Icon } from "./icons.tsx";

interface Props {
  /** A turn of this conversation runs: the button stops it instead of sending. */
  running: boolean;
  lastPrompt: string | undefined;
  onAsk: (prompt: string) => void;
  onStop: () => void;
}

const mostBytes = 16 * 1024;

/** Where one writes. Enter sends, Shift+Enter breaks the line, Escape stops, ↑ brings the last back. */
export function Composer({ running, lastPrompt, onAsk, onStop }: Props) {
  const [text, setText] = useState("");
  const field = useRef<HTMLTextAreaElement>(null);
  const bytes = new TextEncoder().encode(text).length;
  const tooLong = bytes > mostBytes;
  const canSend = text.trim() !== "" && !running && !tooLong;

  useEffect(() => field.current?.focus(), []);
  useHeightOf(field, text);

  function ask() {
    if (!canSend) return;
    onAsk(text.trim());
    setText("");
  }

  function onKeyDown(event: KeyboardEvent) {
    if (event.nativeEvent.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      ask();
    } else if (event.key === "Escape" && running) {
      onStop();
    } else if (event.key === "ArrowUp" && text === "" && lastPrompt !== undefined) {
      event.preventDefault();
      setText(lastPrompt);
    }
  }

  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        ask();
      }}
    >
      <label className="visually-hidden" htmlFor="prompt">
        Your message
      </label>
      <textarea
        id="prompt"
        ref={field}
        rows={1}
        value={text}
        placeholder="Ask something…"
        aria-invalid={tooLong}
        aria-describedby={tooLong ? "too-long" : undefined}
        onChange={(event) => setText(event.target.value)}
        onKeyDown={onKeyDown}
      />
      {running ? (
        <button type="button" className="round" onClick={onStop} aria-label="Stop">
          <Icon name="stop" />
        </button>
      ) : (
        <button type="submit" className="round" disabled={!canSend} aria-label="Send">
          <Icon name="send" />
        </button>
      )}
      {tooLong && <TooLong bytes={bytes} />}
    </form>
  );
}

function TooLong({ bytes }: { bytes: number }) {
  return (
    <p id="too-long" className="problem" role="alert">
      {bytes.toLocaleString()} bytes; a message has at most {mostBytes.toLocaleString()}.
    </p>
  );
}

/** The field grows with its text, up to a share of the window. */
function useHeightOf(field: RefObject<HTMLTextAreaElement | null>, text: string): void {
  // biome-ignore lint/correctness/useExhaustiveDependencies: the height follows the text
  useEffect(() => {
    const area = field.current;
    if (area === null) return;
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight, innerHeight * 0.4)}px`;
  }, [field, text]);
}
