import { ActionButton } from "./action-button.tsx";
import { redrive } from "./actions.ts";
import { DataTable } from "./data-table.tsx";
import { DeadLetters } from "./dead-letters.tsx";
import { count, duration } from "./format.ts";
import { Badge, ObservationView } from "./observation-view.tsx";
import { gaugeMs, useObserved } from "./use-observed.ts";

/** The queues between the two planes, and what was given up of them. */
export function QueuesView() {
  const observation = useObserved("queues", {}, { everyMs: gaugeMs });
  return (
    <>
      <h1>Queues</h1>
      <p className="hint">
        Jobs go to the groups, reports come back. A message that fails again and again is given up:
        it becomes a dead letter.
      </p>
      <ObservationView observation={observation} what="queues">
        {({ queues }) => (
          <DataTable
            caption="Queues"
            hideCaption
            rows={queues}
            keyOf={({ name }) => name}
            empty="There are no queues."
            columns={[
              {
                head: "Queue",
                cell: ({ name, kind, revision }) => (
                  <>
                    {name}
                    <span className="sub">
                      {revision === null ? kind : `${kind} of ${revision}`}
                    </span>
                  </>
                ),
              },
              { head: "Waiting", isNumber: true, cell: ({ waiting }) => count(waiting) },
              { head: "In flight", isNumber: true, cell: ({ inFlight }) => count(inFlight) },
              {
                head: "Oldest job",
                isNumber: true,
                cell: ({ oldestJobMs }) => duration(oldestJobMs),
              },
              { head: "Dead letters", cell: ({ deadLetters }) => <LetterCount n={deadLetters} /> },
              {
                head: "Act",
                cell: (queue) => (
                  <ActionButton action={redrive(queue.kind, queues)} onDone={observation.refresh} />
                ),
              },
            ]}
          />
        )}
      </ObservationView>
      <DeadLetters onDone={observation.refresh} />
    </>
  );
}

function LetterCount({ n }: { n: number }) {
  return <Badge tone={n === 0 ? "good" : "danger"}>{n === 0 ? "none" : count(n)}</Badge>;
}
