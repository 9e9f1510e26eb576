import type { HistoryEntry, RolloutStatus } from "../../events/views.ts";
import { DataTable } from "./data-table.tsx";
import { summaryOf } from "./event-summary.ts";
import { clock, exactClock } from "./format.ts";
import { Badge, type Tone } from "./observation-view.tsx";
import { opsAddress } from "./route.ts";

interface Props {
  status: RolloutStatus;
  history: readonly HistoryEntry[];
  asOf: number;
}

/** Rollouts that are over, and what was decided, the newest first. */
export function RolloutHistory({ status, history, asOf }: Props) {
  return (
    <>
      <h3>Past rollouts</h3>
      <DataTable
        caption="Past rollouts, the last first"
        hideCaption
        rows={status.past.toReversed()}
        keyOf={({ rolloutId }) => rolloutId}
        empty="There has been no rollout yet."
        columns={[
          { head: "Rollout", cell: ({ rolloutId }) => rolloutId },
          { head: "Revision", cell: ({ revision }) => revision },
          {
            head: "Outcome",
            cell: ({ outcome }) => <Badge tone={outcomes[outcome] ?? "quiet"}>{outcome}</Badge>,
          },
          { head: "Ended", cell: ({ endedAt }) => clock(endedAt, asOf) },
          { head: "Why", cell: ({ reason }) => reason },
        ]}
      />
      <h3>What was decided</h3>
      <DataTable
        caption="Decisions about the model and its groups, the last first"
        hideCaption
        rows={history.map((entry, place) => ({ ...entry, place })).toReversed()}
        keyOf={({ place }) => `${place}`}
        empty="Nothing has been decided yet."
        columns={[
          { head: "When", cell: ({ event }) => exactClock(event.at, asOf) },
          {
            head: "What",
            cell: ({ event, stream, position }) => (
              <>
                <a
                  href={opsAddress({
                    view: "log",
                    filter: { stream, commit: { stream, position } },
                  })}
                >
                  {event.type}
                </a>
                {stream.startsWith("group/") && <span className="sub">{stream.slice(6)}</span>}
              </>
            ),
          },
          {
            head: "Details",
            cell: ({ event }) => (
              <span className="details">{summaryOf({ ...event, version: 1 })}</span>
            ),
          },
        ]}
      />
    </>
  );
}

const outcomes: Record<string, Tone> = {
  promoted: "good",
  "rolled back": "danger",
  aborted: "warn",
};
