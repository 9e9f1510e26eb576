import { useEffect, useState } from "react";
import type { ObservedData, TimelineEntry } from "../../events/views.ts";
import { CopyButton } from "../copy-button.tsx";
import { DataTable } from "./data-table.tsx";
import { EventList } from "./event-list.tsx";
import { count, duration, exactClock, perSecond, plural } from "./format.ts";
import { ObservationView } from "./observation-view.tsx";
import { Fact } from "./overview-view.tsx";
import { opsAddress } from "./route.ts";
import { type BarPart, StackedBar } from "./stacked-bar.tsx";
import { rateOf, TurnState } from "./turns-view.tsx";
import { gaugeMs, noticedMs, useObserved } from "./use-observed.ts";
import { WeightsBar } from "./weights-bar.tsx";

type Turn = ObservedData["turn"];

/** One turn: what happened to it, and where its time went. */
export function TurnView({ turnId }: { turnId: string }) {
  const [hasEnded, setHasEnded] = useState(false);
  const observation = useObserved(
    "turn",
    { turnId },
    {
      // Its tokens are no events: they are seen by asking.
      everyMs: hasEnded ? noticedMs : gaugeMs,
      concerns: ({ stream }) => stream === `turn/${turnId}`,
    },
  );
  const { seen } = observation;
  const isOver = seen.status === "shown" && seen.data.endedAt !== null;
  useEffect(() => setHasEnded(isOver), [isOver]);
  return (
    <>
      <p className="trail">
        <a href={opsAddress({ view: "turns", filter: {} })}>Turns</a>
      </p>
      <h1>Turn</h1>
      <p className="with-copy">
        <code>{turnId}</code>
        <CopyButton label="Copy the turn's id" text={() => turnId} />
      </p>
      <ObservationView observation={observation} what="turn">
        {(turn, at) => <Details turn={turn} at={at} />}
      </ObservationView>
    </>
  );
}

function Details({ turn, at }: { turn: Turn; at: number }) {
  const { turnId, conversationId, model, revision, tokens, usage, weights, rolloutId } = turn;
  return (
    <>
      <dl className="facts wide">
        <Fact name="State">
          <TurnState turn={turn} />
        </Fact>
        <Fact name="Model">{model}</Fact>
        <Fact name="Revision">{revision}</Fact>
        <Fact name="Tokens">
          {count(tokens)}
          {usage !== null && ` after a prompt of ${count(usage.promptTokens)}`}
        </Fact>
        <Fact name="Rate">{perSecond(rateOf(turn))}</Fact>
        <Fact name="Conversation">
          <code>{conversationId}</code>
        </Fact>
      </dl>
      <h2>Where the time went</h2>
      <Spent turn={turn} />
      <h2>Timeline</h2>
      <Timeline turn={turn} at={at} />
      <h2>Who produced it</h2>
      <Runs turn={turn} at={at} />
      <h3>Traffic of {model} when it was asked</h3>
      <WeightsBar weights={weights} />
      <p className="hint">
        {rolloutId === null ? "No rollout was under way." : `Rollout ${rolloutId} was under way.`}{" "}
        <a href={opsAddress({ view: "rollouts", model, at: turn.requestedAt })}>
          See {model} as it was then.
        </a>
      </p>
      <h2>Events</h2>
      <p className="hint">
        <a href={opsAddress({ view: "log", filter: { stream: `turn/${turnId}` } })}>
          See them in the log.
        </a>
      </p>
      <EventList events={turn.events} now={at} />
    </>
  );
}

function Spent({ turn }: { turn: Turn }) {
  const { spent } = turn;
  if (spent === null) return <p className="hint">Nobody has claimed it yet.</p>;
  const parts: [string, number | null][] = [
    ["Waiting for a leader", spent.queuedMs],
    ["Until the first token", spent.firstTokenMs],
    ["Generating", spent.generatingMs],
  ];
  const known = parts.flatMap(([name, ms]): BarPart[] =>
    ms === null ? [] : [{ name, value: ms, text: duration(ms) }],
  );
  return <StackedBar label="Where the time went" parts={known} />;
}

function Timeline({ turn, at }: { turn: Turn; at: number }) {
  const { timeline, requestedAt } = turn;
  return (
    <ol className="timeline" aria-label="Timeline">
      {timeline.map((entry) => (
        <li
          key={`${entry.what} ${entry.at} ${entry.epoch}`}
          className={entry.what.replaceAll(" ", "-")}
        >
          <span className="what">{entry.what}</span>
          <time dateTime={new Date(entry.at).toISOString()}>{exactClock(entry.at, at)}</time>
          <span className="after">
            {entry.at === requestedAt ? "" : `+${duration(entry.at - requestedAt)}`}
          </span>
          <span className="aside">{moreOf(entry)}</span>
        </li>
      ))}
    </ol>
  );
}

function moreOf({ groupId, leaderId, epoch, tokens }: TimelineEntry): string {
  return [
    groupId !== undefined && `group\u00a0${groupId}`,
    leaderId !== undefined && leaderId,
    epoch !== undefined && `epoch\u00a0${epoch}`,
    tokens !== undefined && `${plural(tokens, "token")} by then`,
  ]
    .filter((part) => part !== false)
    .join(" · ");
}

function Runs({ turn, at }: { turn: Turn; at: number }) {
  return (
    <DataTable
      caption="Leaders that had the turn"
      hideCaption
      rows={turn.runs}
      keyOf={({ epoch }) => `${epoch}`}
      empty="No leader has claimed it yet."
      columns={[
        {
          head: "Leader",
          cell: ({ leaderId, groupId }) => (
            <>
              <span className="id">{leaderId}</span>
              <span className="sub">group {groupId}</span>
            </>
          ),
        },
        { head: "Claimed", cell: (run) => exactClock(run.at, at) },
        { head: "Epoch", isNumber: true, cell: ({ epoch }) => epoch },
        {
          head: "Tokens before it",
          isNumber: true,
          cell: ({ emittedTokens }) => count(emittedTokens),
        },
      ]}
    />
  );
}
