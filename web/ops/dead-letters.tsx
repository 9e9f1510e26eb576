import { useState } from "react";
import { ActionButton } from "./action-button.tsx";
import { redriveOne } from "./actions.ts";
import { DataTable } from "./data-table.tsx";
import { count, duration, notKnown, plural, times } from "./format.ts";
import { useOps } from "./ops-context.ts";
import { opsAddress } from "./route.ts";

/** What the operation `dead-letters` is answered with (functions/lib/operations/redrive.ts). */
interface Letters {
  letters: Letter[];
  /** Those of other tenants, of which nothing is shown. */
  others: number;
}

interface Letter {
  queue: string;
  kind: "jobs" | "reports";
  messageId: string;
  turnId: string | null;
  /** Why it was put there; null where it was just received too often. */
  reason: string | null;
  receives: number;
  ageMs: number;
}

type Looked =
  | { status: "not yet" }
  | { status: "looking" }
  | { status: "seen"; letters: Letters }
  | { status: "failed"; message: string };

/**
 * The dead letters one by one. They are looked at only when somebody asks: meanwhile they are hidden from
 * others for a moment.
 */
export function DeadLetters({ onDone }: { onDone: () => void }) {
  const { socket, mayAct } = useOps();
  const [looked, setLooked] = useState<Looked>({ status: "not yet" });
  if (mayAct === false) return null;

  async function look(): Promise<void> {
    setLooked({ status: "looking" });
    try {
      const answer = await socket.operate({ command: "dead-letters" });
      const { deadLetters, error } = answer as {
        deadLetters?: Letters;
        error?: { message: string };
      };
      if (deadLetters !== undefined) setLooked({ status: "seen", letters: deadLetters });
      else setLooked({ status: "failed", message: error?.message ?? "Nothing was answered." });
    } catch (error) {
      setLooked({ status: "failed", message: (error as Error).message });
    }
  }

  return (
    <section aria-labelledby="dead-letters">
      <h2 id="dead-letters">Dead letters</h2>
      <p>
        <button
          type="button"
          className="button"
          aria-disabled={looked.status === "looking"}
          onClick={() => looked.status !== "looking" && void look()}
        >
          {looked.status === "not yet" ? "Look at them" : "Look again"}
        </button>
      </p>
      <p role="status">{textOf(looked)}</p>
      {looked.status === "seen" && looked.letters.letters.length > 0 && (
        <LetterTable letters={looked.letters.letters} onDone={onDone} />
      )}
    </section>
  );
}

function textOf(looked: Looked): string {
  if (looked.status === "looking") return "Looking…";
  if (looked.status === "failed") return `They could not be had. ${looked.message}`;
  if (looked.status === "not yet") return "";
  const { letters, others } = looked.letters;
  const own =
    letters.length === 0 ? "There are none." : `${plural(letters.length, "dead letter")}.`;
  return others === 0 ? own : `${own} Besides, ${count(others)} of other tenants.`;
}

function LetterTable({ letters, onDone }: { letters: readonly Letter[]; onDone: () => void }) {
  return (
    <DataTable
      caption="Dead letters"
      hideCaption
      rows={letters}
      keyOf={({ messageId }) => messageId}
      empty="There are none."
      columns={[
        { head: "Queue", cell: ({ queue }) => queue },
        {
          head: "Turn",
          cell: ({ turnId }) =>
            turnId === null ? (
              notKnown
            ) : (
              <a className="id" href={opsAddress({ view: "turn", turnId })}>
                {turnId}
              </a>
            ),
        },
        { head: "Why", cell: ({ reason }) => reason ?? "it was received too often" },
        { head: "Received", isNumber: true, cell: ({ receives }) => times(receives) },
        { head: "Age", isNumber: true, cell: ({ ageMs }) => duration(ageMs) },
        {
          head: "Act",
          cell: (letter) => <ActionButton action={redriveOne(letter)} onDone={onDone} />,
        },
      ]}
    />
  );
}
