import { useEffect, useRef } from "react";
import type { ObservedData, SeenCommit } from "../../events/views.ts";
import { replaceAddress } from "../route.ts";
import { DataTable } from "./data-table.tsx";
import { EventList } from "./event-list.tsx";
import { exactClock } from "./format.ts";
import { JsonView } from "./json-view.tsx";
import { ObservationView } from "./observation-view.tsx";
import { type CommitName, opsAddress } from "./route.ts";
import { type StateField, stateFields } from "./state-fields.ts";
import { noticedMs, useObserved } from "./use-observed.ts";

interface Props {
  commit: CommitName;
  /** The address without a commit. */
  onLeave: string;
  addressOf: (commit: CommitName) => string;
}

/** One commit whole, and the state that its stream had come to by then. */
export function CommitPanel({ commit: { stream, position }, onLeave, addressOf }: Props) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => heading.current?.focus(), []);
  // Of its own stream only: names that go on after it are other streams.
  const own = useObserved(
    "log",
    { stream, limit: 100 },
    { everyMs: noticedMs, concerns: (change) => change.stream === stream },
  );
  return (
    <section className="panel" aria-labelledby="commit-title">
      <h2 id="commit-title" ref={heading} tabIndex={-1}>
        {stream}
      </h2>
      <p>
        {subjectOf(stream)} <a href={onLeave}>Close</a>
      </p>
      <ObservationView observation={own} what="stream">
        {({ commits, next }) => (
          <Versions
            commits={commits.filter((each) => each.stream === stream).toReversed()}
            isCut={next !== null}
            position={position}
            onChoose={(other) => replaceAddress(addressOf({ stream, position: other }))}
          />
        )}
      </ObservationView>
    </section>
  );
}

/** The view of what the stream is about. */
function subjectOf(stream: string) {
  const [kind, ...rest] = stream.split("/");
  const id = rest.join("/");
  if (kind === "turn") return <a href={opsAddress({ view: "turn", turnId: id })}>See the turn.</a>;
  if (kind === "rollout") {
    return <a href={opsAddress({ view: "rollouts", model: id })}>See the model's rollouts.</a>;
  }
  if (kind === "group") return <a href={opsAddress({ view: "groups" })}>See the groups.</a>;
  return null;
}

interface VersionsProps {
  /** Oldest first. */
  commits: readonly SeenCommit[];
  /** There are older ones. */
  isCut: boolean;
  position: string;
  onChoose: (position: string) => void;
}

function Versions({ commits, isCut, position, onChoose }: VersionsProps) {
  const place = commits.findIndex((commit) => commit.position === position);
  const commit = commits[place];
  if (commit === undefined) {
    return (
      <p className="hint">
        {isCut
          ? "This commit is not among the newest hundred of its stream."
          : "There is no such commit."}
      </p>
    );
  }
  const first = commits[0]?.version ?? 1;
  const last = commits.at(-1)?.version ?? 1;
  return (
    <>
      <label className="version-slider">
        Version {commit.version} of {last}, written at {exactClock(commit.at, Date.now())}
        <input
          type="range"
          min={first}
          max={last}
          value={commit.version}
          aria-valuetext={`version ${commit.version} of ${last}`}
          onChange={(event) => {
            const chosen = commits[Number(event.target.value) - first];
            if (chosen !== undefined) onChoose(chosen.position);
          }}
        />
      </label>
      <h3>What was written</h3>
      <EventList events={commit.events} now={Date.now()} />
      <h3>The state after it</h3>
      <FoldedState
        stream={commit.stream}
        position={commit.position}
        before={commits[place - 1]?.position}
      />
    </>
  );
}

/** @param before position of the commit before it; undefined where there is none. */
function FoldedState(props: { stream: string; position: string; before: string | undefined }) {
  const { stream, position, before } = props;
  const after = useObserved("fold", { stream, position }, { everyMs: noticedMs });
  return (
    <ObservationView observation={after} what="state">
      {(folded) =>
        before === undefined ? (
          <Fields after={folded} before={undefined} />
        ) : (
          <Changed stream={stream} after={folded} before={before} />
        )
      }
    </ObservationView>
  );
}

type Folded = ObservedData["fold"];

function Changed({ stream, after, before }: { stream: string; after: Folded; before: string }) {
  const { seen } = useObserved("fold", { stream, position: before }, { everyMs: noticedMs });
  return <Fields after={after} before={seen.status === "shown" ? seen.data : undefined} />;
}

function Fields({ after, before }: { after: Folded; before: Folded | undefined }) {
  return (
    <DataTable
      caption={`State of ${after.stream} after version ${after.version}`}
      hideCaption
      rows={stateFields(after.state, before?.state)}
      keyOf={({ name }) => name}
      empty="It has no state yet."
      columns={[
        { head: "Field", cell: ({ name }) => name },
        { head: "Value", cell: (field) => <Value field={field} /> },
        { head: "By this commit", cell: ({ change }) => change ?? "" },
      ]}
    />
  );
}

function Value({ field: { name, value } }: { field: StateField }) {
  const isPlain = typeof value !== "object" || value === null;
  if (isPlain) return <span className="details">{String(value)}</span>;
  return <JsonView label={name} value={value} />;
}
