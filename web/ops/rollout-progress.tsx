import type { RolloutStatus } from "../../events/views.ts";
import { DataTable } from "./data-table.tsx";
import { clock, duration } from "./format.ts";
import { gateRows } from "./gates.ts";
import { Badge } from "./observation-view.tsx";
import { Fact } from "./overview-view.tsx";

interface Props {
  rollout: NonNullable<RolloutStatus["rollout"]>;
  gates: RolloutStatus["gates"];
  asOf: number;
}

/** The rollout under way: how far it is, and what its step has to show. */
export function RolloutProgress({ rollout, gates, asOf }: Props) {
  const { rolloutId, revision, by, reason, phase, paused, startedAt, since, bakeMs } = rollout;
  return (
    <section aria-labelledby="under-way" className="panel">
      <h3 id="under-way">
        Rollout {rolloutId} to {revision}
      </h3>
      <dl className="facts">
        <Fact name="Phase">
          {phase}, for {duration(Math.max(0, asOf - since))}
        </Fact>
        <Fact name="Started">
          {clock(startedAt, asOf)} by {by}
        </Fact>
        {reason !== "" && <Fact name="Why">{reason}</Fact>}
        <Fact name="Each step is watched for">{duration(bakeMs)}</Fact>
      </dl>
      {paused !== null && (
        <p className="notice warn">
          <Badge tone="warn">paused</Badge> since {clock(paused.at, asOf)} by {paused.by}
          {paused.reason !== "" && `: ${paused.reason}`}
        </p>
      )}
      <Steps rollout={rollout} />
      {gates !== null && (
        <DataTable
          caption={`Gates of this step${gates.measured === null ? " (what was measured cannot be had now)" : ""}`}
          rows={gateRows(gates, revision)}
          keyOf={({ gate }) => gate}
          empty="It has no gates."
          columns={[
            { head: "Gate", cell: ({ gate }) => gate },
            { head: "Limit", cell: ({ limit }) => limit },
            { head: revision, isNumber: true, cell: ({ candidate }) => candidate },
            { head: "Promoted one", isNumber: true, cell: ({ promoted }) => promoted },
            {
              head: "Now",
              cell: ({ verdict }) => <Badge tone={verdict.tone}>{verdict.text}</Badge>,
            },
          ]}
        />
      )}
    </section>
  );
}

function Steps({ rollout: { steps, step, phase } }: Pick<Props, "rollout">) {
  return (
    <ol className="steps" aria-label="Steps">
      {steps.map((percent, i) => (
        <li
          key={percent}
          aria-current={i === step ? "step" : undefined}
          className={i < step ? "past" : ""}
        >
          <b>{percent} %</b> <span>{wordOf(i - step, phase)}</span>
        </li>
      ))}
    </ol>
  );
}

function wordOf(distance: number, phase: string): string {
  if (distance < 0) return "passed";
  if (distance > 0) return "to come";
  return phase === "canary" ? "in force" : "being prepared";
}
