import type { ReactNode } from "react";
import type { ObservedData } from "../../events/views.ts";
import { DataTable } from "./data-table.tsx";
import { count, duration, percent, plural } from "./format.ts";
import { Badge, Mark, ObservationView, type Tone } from "./observation-view.tsx";
import { opsAddress } from "./route.ts";
import { gaugeMs, useObserved } from "./use-observed.ts";
import { WeightsBar } from "./weights-bar.tsx";

/** Whether all is well, on one screen; each figure leads to the view that tells more. */
export function OverviewView() {
  const observation = useObserved("overview", {}, { everyMs: gaugeMs });
  return (
    <>
      <h1>Overview</h1>
      <ObservationView observation={observation} what="overview">
        {(overview) => <Figures overview={overview} />}
      </ObservationView>
    </>
  );
}

function Figures({ overview }: { overview: ObservedData["overview"] }) {
  const { stage, models, groups, turns, deadLetters, slo } = overview;
  const { ended, failed } = turns.lastMinute;
  return (
    <>
      <p className="hint">Stage {stage}</p>
      <ul className="tiles" aria-label="Figures">
        <Tile
          name="Groups"
          address={opsAddress({ view: "groups" })}
          tone={groups.ready > 0 ? "good" : "danger"}
          value={`${count(groups.ready)} ready`}
        >
          {groups.forming} forming, {groups.draining} draining
        </Tile>
        <Tile
          name="Turns in flight"
          address={opsAddress({ view: "turns", filter: { status: "open" } })}
          tone={turns.waiting === 0 ? "good" : "warn"}
          value={`${count(turns.running)} running`}
        >
          {turns.waiting === 0
            ? "none waits"
            : `${count(turns.waiting)} wait, the oldest for ${duration(turns.oldestWaitMs)}`}
        </Tile>
        <Tile
          name="Last minute"
          address={opsAddress({ view: "turns", filter: failed > 0 ? { status: "failed" } : {} })}
          tone={failed === 0 ? "good" : "danger"}
          value={plural(ended, "turn")}
        >
          {failed === 0 ? "none failed" : `${count(failed)} failed`}
        </Tile>
        <Tile
          name="Dead letters"
          address={opsAddress({ view: "queues" })}
          tone={deadLetters === 0 ? "good" : "danger"}
          value={count(deadLetters)}
        >
          {lettersOf(deadLetters)}
        </Tile>
      </ul>
      <ServiceLevels slo={slo} />
      <h2>Models</h2>
      <DataTable
        caption="Models, and the revisions that their traffic goes to"
        hideCaption
        rows={models}
        keyOf={({ model }) => model}
        empty="No model is served."
        columns={[
          {
            head: "Model",
            cell: ({ model }) => <a href={opsAddress({ view: "rollouts", model })}>{model}</a>,
          },
          { head: "Traffic", cell: ({ weights }) => <WeightsBar weights={weights} /> },
          {
            head: "Rollout",
            cell: ({ rolloutPhase }) =>
              rolloutPhase === null ? (
                "none"
              ) : (
                <Badge tone={rolloutPhase === "paused" ? "warn" : "busy"}>{rolloutPhase}</Badge>
              ),
          },
        ]}
      />
    </>
  );
}

function ServiceLevels({ slo }: Pick<ObservedData["overview"], "slo">) {
  return (
    <>
      <h2>Service levels</h2>
      <p className="hint">Of the turns that have ended in the last five minutes.</p>
      <dl className="facts">
        <Fact name="Time to first token, p95">{duration(slo.firstTokenP95Ms)}</Fact>
        <Fact name="Inter-token latency, p95">{duration(slo.interTokenP95Ms)}</Fact>
        <Fact name="Failed turns">{percent(slo.errorPercent)}</Fact>
      </dl>
    </>
  );
}

function lettersOf(n: number | null): string {
  if (n === null) return "the queues cannot be asked";
  return n === 0 ? "nothing was given up" : "jobs or reports were given up";
}

interface TileProps {
  name: string;
  address: string;
  tone: Tone;
  value: string;
  children: ReactNode;
}

function Tile({ name, address, tone, value, children }: TileProps) {
  return (
    <li>
      <a className="tile" href={address}>
        <span className="tile-name">
          <Mark tone={tone} /> {name}
        </span>
        <span className="tile-value">{value}</span>
        <span className="tile-more">{children}</span>
      </a>
    </li>
  );
}

export function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
