import type { ReactNode } from "react";
import { clock } from "./format.ts";
import type { OpsError } from "./ops-socket.ts";
import type { Observation } from "./use-observed.ts";

interface Props<Data> {
  observation: Observation<Data>;
  /** What is shown while nothing is known yet: "groups". */
  what: string;
  children: (data: Data, at: number) => ReactNode;
}

/** What the server has said, or what there is instead: that it loads, is refused, or is of the past. */
export function ObservationView<Data>({ observation, what, children }: Props<Data>) {
  const { seen, isStale, refresh } = observation;
  if (seen.status === "loading") return <p className="hint">Loading the {what}…</p>;
  if (seen.status === "refused") return <Refused error={seen.error} onRetry={refresh} />;
  return (
    <>
      <div role="status" aria-label="Freshness">
        {isStale && (
          <p className="notice warn">
            <Mark tone="warn" /> As of {clock(seen.at, Date.now())}; it may have changed since.{" "}
            {seen.problem?.message ?? "Axon is being asked again."}
          </p>
        )}
      </div>
      {children(seen.data, seen.at)}
    </>
  );
}

function Refused({ error, onRetry }: { error: OpsError; onRetry: () => void }) {
  if (error.code === "forbidden") {
    return (
      <div className="notice" role="alert">
        <h2>You may not see this</h2>
        <p>
          Your key or token lacks the scope <code>ops:read</code>. Ask whoever gave it to you for
          one that has it, and sign in again.
        </p>
      </div>
    );
  }
  return (
    <div className="notice danger" role="alert">
      <h2>{isMissing(error) ? "There is no such thing" : "This could not be had"}</h2>
      <p>{error.message}</p>
      {!isMissing(error) && (
        <button type="button" className="button" onClick={onRetry}>
          Try again
        </button>
      )}
    </div>
  );
}

const isMissing = ({ code }: OpsError): boolean => code.endsWith("not_found");

/** `busy`: it goes on, as it should; `quiet`: there is nothing to say about it. */
export type Tone = "good" | "busy" | "warn" | "danger" | "quiet";

const marks: Record<Tone, string> = {
  good: "M4 10.5l4 4 8-9",
  busy: "M10 3a7 7 0 1 0 7 7M10 6v4l3 2",
  warn: "M10 3l8 14H2zM10 8v4M10 14.4v.4",
  danger: "M10 2.5a7.5 7.5 0 1 0 0 15 7.5 7.5 0 0 0 0-15zM7 7l6 6M13 7l-6 6",
  quiet: "M5 10h10",
};

/** A tone's sign: colour is never the only one. */
export function Mark({ tone }: { tone: Tone }) {
  return (
    <svg className={`mark tone-${tone}`} viewBox="0 0 20 20" aria-hidden="true" focusable="false">
      <path d={marks[tone]} />
    </svg>
  );
}

/** A state, in a word with a sign. */
export function Badge({ tone, children }: { tone: Tone; children: ReactNode }) {
  return (
    <span className={`badge tone-${tone}`}>
      <Mark tone={tone} />
      {children}
    </span>
  );
}
