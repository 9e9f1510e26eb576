import { useId, useState } from "react";
import type { Action } from "./actions.ts";
import { ConfirmDialog } from "./confirm-dialog.tsx";
import { useOps } from "./ops-context.ts";

interface Props {
  action: Action;
  /** Hears that it was done. */
  onDone: () => void;
}

/**
 * Asks before it does anything. Where it cannot be done the button stays, can be reached with the keyboard,
 * and says why.
 */
export function ActionButton({ action, onDone }: Props) {
  const { mayAct } = useOps();
  const [isAsking, setIsAsking] = useState(false);
  const reasonId = useId();
  const hindrance = mayAct === false ? noRight : action.hindrance;
  return (
    <span className="action">
      <button
        type="button"
        className={action.isDangerous ? "button danger" : "button"}
        aria-disabled={hindrance !== undefined}
        aria-describedby={hindrance === undefined ? undefined : reasonId}
        title={hindrance}
        onClick={() => hindrance === undefined && setIsAsking(true)}
      >
        {action.name}
      </button>
      {hindrance !== undefined && (
        <span id={reasonId} className="visually-hidden">
          {hindrance}
        </span>
      )}
      {isAsking && (
        <ConfirmDialog action={action} onDone={onDone} onClose={() => setIsAsking(false)} />
      )}
    </span>
  );
}

/** Why nothing can be done here by this credential. */
export const noRight = "Your key may look but not act: it lacks the scope ops:write.";
