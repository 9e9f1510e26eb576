import { type FormEvent, useRef } from "react";
import type { ObservedData, SeenCommit } from "../../events/views.ts";
import { replaceAddress } from "../route.ts";
import { CommitPanel } from "./commit-panel.tsx";
import { DataTable } from "./data-table.tsx";
import { summaryOf } from "./event-summary.ts";
import { fieldOf, useFormValues } from "./form-values.ts";
import { exactClock } from "./format.ts";
import { ObservationView } from "./observation-view.tsx";
import { positionAt, timeOfPosition } from "./position.ts";
import { type LogFilter, opsAddress } from "./route.ts";
import { TimeSlider } from "./time-slider.tsx";
import { noticedMs, useObserved } from "./use-observed.ts";

/** The event log: what happened, of everything, in the order in which it was written. */
export function LogView({ filter }: { filter: LogFilter }) {
  const { stream, type, at, commit } = filter;
  const observation = useObserved(
    "log",
    {
      ...(stream !== undefined && { stream }),
      ...(type !== undefined && { type }),
      ...(at !== undefined && { before: positionAt(at + 1) }),
    },
    {
      everyMs: noticedMs,
      concerns: (change) =>
        at === undefined &&
        change.stream.startsWith(stream ?? "") &&
        (type === undefined || change.types.includes(type)),
    },
  );
  return (
    <>
      <h1>Event log</h1>
      <Filters filter={filter} />
      {commit !== undefined && (
        <CommitPanel
          key={commit.stream}
          commit={commit}
          onLeave={logAddress({ ...filter, commit: undefined })}
          addressOf={(other) => logAddress({ ...filter, commit: other })}
        />
      )}
      <ObservationView observation={observation} what="log">
        {(page) => <Commits page={page} filter={filter} />}
      </ObservationView>
    </>
  );
}

type Change = { [Name in keyof LogFilter]: LogFilter[Name] | undefined };

function logAddress(filter: Change): string {
  const given = Object.entries(filter).filter(([, value]) => value !== undefined);
  return opsAddress({ view: "log", filter: Object.fromEntries(given) as LogFilter });
}

function Filters({ filter }: { filter: LogFilter }) {
  const form = useRef<HTMLFormElement>(null);
  const { stream = "", type = "" } = filter;
  useFormValues(form, { stream, type });
  function apply(event: FormEvent<HTMLFormElement>): void {
    event.preventDefault();
    const fields = event.currentTarget;
    const asked = { stream: fieldOf(fields, "stream"), type: fieldOf(fields, "type") };
    replaceAddress(logAddress({ ...filter, ...asked, commit: undefined }));
  }
  return (
    <div className="filters">
      <form ref={form} aria-label="Filter the log" onSubmit={apply}>
        <label>
          Streams that begin with
          <input name="stream" list="stream-kinds" placeholder="turn/…" autoComplete="off" />
        </label>
        <datalist id="stream-kinds">
          {["turn/", "conversation/", "group/", "rollout/"].map((kind) => (
            <option key={kind} value={kind} />
          ))}
        </datalist>
        <label>
          Type of event
          <input name="type" placeholder="TurnTakenOver" autoComplete="off" />
        </label>
        <button type="submit" className="button">
          Filter
        </button>
      </form>
    </div>
  );
}

interface CommitsProps {
  page: ObservedData["log"];
  filter: LogFilter;
}

function Commits({ page: { commits, next, range }, filter }: CommitsProps) {
  const now = Date.now();
  return (
    <>
      {range.first !== null && range.last !== null && (
        <TimeSlider
          first={range.first.at}
          last={range.last.at}
          at={filter.at}
          onChoose={(at) => replaceAddress(logAddress({ ...filter, at }))}
        />
      )}
      <DataTable
        caption="Commits, the newest first"
        hideCaption
        rows={commits}
        keyOf={({ stream, version }) => `${stream} ${version}`}
        empty="Nothing of the kind was written by then."
        columns={[
          {
            head: "When",
            cell: (commit) => (
              <a href={logAddress({ ...filter, commit: nameOf(commit) })}>
                {exactClock(commit.at, now)}
              </a>
            ),
          },
          {
            head: "Stream",
            cell: ({ stream, version }) => (
              <>
                <span className="id">{stream}</span>
                <span className="sub">version {version}</span>
              </>
            ),
          },
          { head: "Events", cell: EventsOf },
        ]}
      />
      {next !== null && (
        <nav className="pages" aria-label="Pages of the log">
          <a href={logAddress({ ...filter, at: timeOfPosition(next) })}>Older</a>
        </nav>
      )}
    </>
  );
}

const nameOf = ({ stream, position }: SeenCommit) => ({ stream, position });

function EventsOf({ events }: SeenCommit) {
  return (
    <>
      {events.map((event, i) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: what is written keeps its order
        <span key={`${i}-${event.type}`} className="details">
          <b>{event.type}</b> {summaryOf(event)}
        </span>
      ))}
    </>
  );
}
