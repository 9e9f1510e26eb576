import { type FormEvent, useEffect, useId, useRef, useState } from "react";
import type { Action } from "./actions.ts";
import { useOps } from "./ops-context.ts";

interface Props {
  action: Action;
  onDone: () => void;
  onClose: () => void;
}

type Progress =
  | { status: "asking" }
  | { status: "working" }
  | { status: "done" }
  | { status: "failed"; message: string };

/** Says what will happen, and has it done. The browser's own dialog keeps the focus, and gives it back. */
export function ConfirmDialog({ action, onDone, onClose }: Props) {
  const { socket } = useOps();
  const dialog = useRef<HTMLDialogElement>(null);
  const [progress, setProgress] = useState<Progress>({ status: "asking" });
  // What was asked about stays as it was, whatever the view learns meanwhile.
  const [asked] = useState(action);
  const titleId = useId();
  useEffect(() => dialog.current?.showModal(), []);

  async function submit(event: FormEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    const reason = new FormData(event.currentTarget).get("reason");
    setProgress({ status: "working" });
    const operation = {
      ...asked.operation,
      ...(typeof reason === "string" && reason.trim() !== "" && { reason: reason.trim() }),
    };
    const refusal = await socket.operate(operation).then(refusalOf, messageOf);
    setProgress(
      refusal === undefined ? { status: "done" } : { status: "failed", message: refusal },
    );
    if (refusal === undefined) onDone();
  }

  const isDone = progress.status === "done";
  return (
    <dialog ref={dialog} className="confirm" aria-labelledby={titleId} onClose={onClose}>
      <form onSubmit={(event) => void submit(event)}>
        <h2 id={titleId}>{asked.title}</h2>
        {!isDone && asked.consequences.map((text) => <p key={text}>{text}</p>)}
        {!isDone && asked.takesReason && (
          <label>
            Why, for the log (may be left out)
            <input name="reason" maxLength={1_000} autoComplete="off" />
          </label>
        )}
        <p role="status" className={progress.status === "failed" ? "problem-text" : undefined}>
          {textOf(progress, asked)}
        </p>
        <div className="dialog-buttons">
          <button type="button" className="button" onClick={() => dialog.current?.close()}>
            {isDone ? "Close" : "Cancel"}
          </button>
          {!isDone && (
            <button
              type="submit"
              className={asked.isDangerous ? "button primary danger" : "button primary"}
              disabled={progress.status === "working"}
            >
              {asked.title}
            </button>
          )}
        </div>
      </form>
    </dialog>
  );
}

function textOf(progress: Progress, action: Action): string {
  if (progress.status === "done") return action.done;
  if (progress.status === "failed") return `It was not done. ${progress.message}`;
  return progress.status === "working" ? "Working…" : "";
}

/** The operator's function answers a refusal in good order: `{ ok: false, error }`. */
function refusalOf(answer: unknown): string | undefined {
  const { ok, error } = answer as { ok?: boolean; error?: { message?: string } };
  return ok === false ? (error?.message ?? "It was refused.") : undefined;
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}
