import type { SeenGroup } from "../../events/views.ts";
import { ActionButton } from "./action-button.tsx";
import { rotate } from "./actions.ts";
import { type Column, DataTable } from "./data-table.tsx";
import { count, duration, notKnown, perSecond } from "./format.ts";
import { Meter } from "./meter.tsx";
import { Badge, ObservationView, type Tone } from "./observation-view.tsx";
import { opsAddress } from "./route.ts";
import { gaugeMs, useObserved } from "./use-observed.ts";

/** The groups that serve, form or are on their way out. */
export function GroupsView() {
  const observation = useObserved("groups", {}, { everyMs: gaugeMs });
  return (
    <>
      <h1>Groups</h1>
      <p className="hint">
        A group is the processes that hold one copy of a model: a leader and its ranks.
      </p>
      <ObservationView observation={observation} what="groups">
        {({ groups }) => (
          <DataTable
            caption="Groups"
            hideCaption
            rows={groups}
            keyOf={({ groupId }) => groupId}
            empty="There is no group. A model at rest is woken by its first turn."
            columns={columnsOf(groups, observation.refresh)}
          />
        )}
      </ObservationView>
    </>
  );
}

function columnsOf(groups: readonly SeenGroup[], onDone: () => void): Column<SeenGroup>[] {
  return [
    {
      head: "Group",
      cell: ({ groupId, revision }) => (
        <>
          <a href={opsAddress({ view: "log", filter: { stream: `group/${groupId}` } })}>
            {groupId}
          </a>
          <span className="sub">{revision}</span>
        </>
      ),
    },
    { head: "State", cell: StateOf },
    { head: "Ranks", isNumber: true, cell: ({ ranks }) => count(ranks) },
    {
      head: "Busy slots",
      cell: ({ groupId, running, slots }) => (
        <Meter
          label={`Busy slots of ${groupId}`}
          share={running === null || slots === 0 ? null : running / slots}
          text={slots === 0 ? notKnown : `${count(running)} of ${count(slots)}`}
        />
      ),
    },
    {
      head: "KV cache",
      cell: ({ groupId, kvUse }) => <Meter label={`KV cache of ${groupId}`} share={kvUse} />,
    },
    { head: "Tokens", isNumber: true, cell: ({ tokensPerSecond }) => perSecond(tokensPerSecond) },
    { head: "Last beat", isNumber: true, cell: ({ beatAgeMs }) => beatOf(beatAgeMs) },
    { head: "Losses", isNumber: true, cell: ({ losses }) => count(losses) },
    {
      head: "Act",
      cell: (group) => <ActionButton action={rotate(group, groups)} onDone={onDone} />,
    },
  ];
}

const beatOf = (ageMs: number | null) => (ageMs === null ? notKnown : `${duration(ageMs)} ago`);

const tones: Record<SeenGroup["status"], Tone> = {
  ready: "good",
  "asked for": "busy",
  forming: "busy",
  draining: "quiet",
  silent: "danger",
  failed: "danger",
  gone: "quiet",
};

function StateOf({ status, isAccepting, epoch }: SeenGroup) {
  return (
    <>
      <Badge tone={tones[status]}>{status}</Badge>
      {epoch > 0 && <span className="sub">epoch {epoch}</span>}
      {status === "ready" && !isAccepting && <span className="sub">takes no turns</span>}
    </>
  );
}
