import { type FormEvent, useRef } from "react";
import type { Change } from "../../events/observations.ts";
import type { SeenTurn } from "../../events/views.ts";
import { replaceAddress } from "../route.ts";
import { type Column, DataTable } from "./data-table.tsx";
import { fieldOf, useFormValues } from "./form-values.ts";
import { clock, count, duration, perSecond } from "./format.ts";
import { Badge, ObservationView, type Tone } from "./observation-view.tsx";
import { opsAddress, type TurnFilter, turnStatuses } from "./route.ts";
import { noticedMs, useObserved } from "./use-observed.ts";

const ofTurns = ({ stream }: Change): boolean => stream.startsWith("turn/");

/** Turns in flight and recent ones, those asked for last first. */
export function TurnsView({ filter }: { filter: TurnFilter }) {
  const observation = useObserved("turns", filter, { everyMs: noticedMs, concerns: ofTurns });
  return (
    <>
      <h1>Turns</h1>
      <Filters filter={filter} />
      <ObservationView observation={observation} what="turns">
        {({ turns, next }, at) => (
          <>
            <DataTable
              caption="Turns, those asked for last first"
              hideCaption
              rows={turns}
              keyOf={({ turnId }) => turnId}
              empty="There are no such turns."
              columns={columnsAt(at)}
            />
            <nav className="pages" aria-label="Pages of turns">
              {filter.before !== undefined && (
                <a href={opsAddress({ view: "turns", filter: without(filter) })}>Newest</a>
              )}
              {next !== null && (
                <a href={opsAddress({ view: "turns", filter: { ...filter, before: next } })}>
                  Older
                </a>
              )}
            </nav>
          </>
        )}
      </ObservationView>
    </>
  );
}

function without({ before: _, ...filter }: TurnFilter): TurnFilter {
  return filter;
}

/** A choice is in the address at once; names are when Enter is pressed. */
function Filters({ filter }: { filter: TurnFilter }) {
  const form = useRef<HTMLFormElement>(null);
  const { status = "", model = "", revision = "" } = filter;
  useFormValues(form, { status, model, revision });
  return (
    <div className="filters">
      <form ref={form} aria-label="Filter the turns" onSubmit={applyFilter}>
        <label>
          State
          <select name="status" onChange={(event) => event.target.form?.requestSubmit()}>
            <option value="">all</option>
            {turnStatuses.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
        <label>
          Model
          <input name="model" autoComplete="off" />
        </label>
        <label>
          Revision
          <input name="revision" autoComplete="off" />
        </label>
        <button type="submit" className="button">
          Filter
        </button>
      </form>
      <form aria-label="Open a turn" onSubmit={openTurn}>
        <label>
          Turn by its id
          <input name="turnId" placeholder="turn_…" autoComplete="off" required />
        </label>
        <button type="submit" className="button">
          Open
        </button>
      </form>
    </div>
  );
}

function applyFilter(event: FormEvent<HTMLFormElement>): void {
  event.preventDefault();
  const form = event.currentTarget;
  const chosen = fieldOf(form, "status");
  const status = turnStatuses.find((each) => each === chosen);
  const model = fieldOf(form, "model");
  const revision = fieldOf(form, "revision");
  const filter = {
    ...(status !== undefined && { status }),
    ...(model !== undefined && { model }),
    ...(revision !== undefined && { revision }),
  };
  replaceAddress(opsAddress({ view: "turns", filter }));
}

function openTurn(event: FormEvent<HTMLFormElement>): void {
  event.preventDefault();
  const turnId = fieldOf(event.currentTarget, "turnId");
  if (turnId !== undefined) location.hash = opsAddress({ view: "turn", turnId });
}

function columnsAt(at: number): Column<SeenTurn>[] {
  return [
    {
      head: "Turn",
      cell: ({ turnId }) => (
        <a className="id" href={opsAddress({ view: "turn", turnId })}>
          {turnId}
        </a>
      ),
    },
    { head: "State", cell: (turn) => <TurnState turn={turn} /> },
    { head: "Asked", cell: ({ requestedAt }) => clock(requestedAt, at) },
    {
      head: "Revision",
      cell: ({ model, revision, groupId }) => (
        <span className="one-line">
          {revision}
          <span className="sub">{groupId === null ? model : `group ${groupId}`}</span>
        </span>
      ),
    },
    { head: "Waited", isNumber: true, cell: (turn) => duration(waitedMs(turn, at)) },
    { head: "First token", isNumber: true, cell: ({ timings }) => duration(timings?.firstTokenMs) },
    { head: "Tokens", isNumber: true, cell: ({ tokens }) => count(tokens) },
    { head: "Rate", isNumber: true, cell: (turn) => perSecond(rateOf(turn)) },
  ];
}

/** Until it was claimed, or until now. */
function waitedMs({ timings, startedAt, requestedAt, endedAt }: SeenTurn, at: number): number {
  return timings?.queuedMs ?? Math.max(0, (startedAt ?? endedAt ?? at) - requestedAt);
}

/** Tokens a second after the first. */
export function rateOf({ timings, usage }: SeenTurn): number | null {
  if (timings === null || usage === null || usage.completionTokens < 2) return null;
  const seconds = (timings.totalMs - timings.firstTokenMs) / 1_000;
  return seconds <= 0 ? null : (usage.completionTokens - 1) / seconds;
}

const tones: Record<SeenTurn["status"], Tone> = {
  requested: "warn",
  running: "busy",
  completed: "good",
  cancelled: "quiet",
  failed: "danger",
};

export function TurnState({ turn: { status, errorCode } }: { turn: SeenTurn }) {
  return (
    <>
      <Badge tone={tones[status]}>{status === "requested" ? "waiting" : status}</Badge>
      {errorCode !== null && <span className="sub">{errorCode}</span>}
    </>
  );
}
