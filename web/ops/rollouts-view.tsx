import { type FormEvent, useRef } from "react";
import type { ObservedData, RolloutStatus } from "../../events/views.ts";
import { replaceAddress } from "../route.ts";
import { ActionButton, noRight } from "./action-button.tsx";
import { type Action, rolloutActions } from "./actions.ts";
import { DataTable } from "./data-table.tsx";
import { fieldOf, useFormValues } from "./form-values.ts";
import { clock, duration, fromLocalField, toLocalField } from "./format.ts";
import { Badge, ObservationView, type Tone } from "./observation-view.tsx";
import { useOps } from "./ops-context.ts";
import { Fact } from "./overview-view.tsx";
import { RolloutHistory } from "./rollout-history.tsx";
import { RolloutProgress } from "./rollout-progress.tsx";
import { opsAddress } from "./route.ts";
import { gaugeMs, noticedMs, useObserved } from "./use-observed.ts";
import { WeightsBar } from "./weights-bar.tsx";

interface Props {
  model: string | undefined;
  /** As it was then, Unix ms. */
  at: number | undefined;
}

/** A model's revisions: which gets what traffic, which is to take over, and why. */
export function RolloutsView({ model, at }: Props) {
  const observation = useObserved(
    "rollout",
    { ...(model !== undefined && { model }), ...(at !== undefined && { at }) },
    {
      // What the gates measure are no events: it is seen by asking.
      everyMs: at === undefined ? gaugeMs : noticedMs,
      concerns: ({ stream }) => at === undefined && /^(rollout|group)\//.test(stream),
    },
  );
  return (
    <>
      <h1>Rollouts</h1>
      <Choice model={model} at={at} />
      {at !== undefined && (
        <p className="notice">
          As it was at {clock(at, Date.now())}.{" "}
          <a href={opsAddress({ view: "rollouts", ...(model !== undefined && { model }) })}>
            See it now.
          </a>
        </p>
      )}
      <ObservationView observation={observation} what="rollouts">
        {(data, asOf) => (
          <Model data={data} asOf={asOf} isPast={at !== undefined} refresh={observation.refresh} />
        )}
      </ObservationView>
    </>
  );
}

/** Which model, and when. */
function Choice({ model, at }: Props) {
  const form = useRef<HTMLFormElement>(null);
  const { seen } = useObserved("overview", {}, { everyMs: noticedMs });
  const models = seen.status === "shown" ? seen.data.models.map((each) => each.model) : [];
  const known = model === undefined || models.includes(model) ? models : [model, ...models];
  const when = at === undefined ? "" : toLocalField(at);
  useFormValues(form, { model: model ?? known[0] ?? "", at: when });
  function apply(event: FormEvent<HTMLFormElement>): void {
    event.preventDefault();
    const chosen = fieldOf(event.currentTarget, "model");
    const moment = fromLocalField(fieldOf(event.currentTarget, "at") ?? "");
    replaceAddress(
      opsAddress({
        view: "rollouts",
        ...(chosen !== undefined && { model: chosen }),
        ...(moment !== undefined && { at: moment }),
      }),
    );
  }
  return (
    <div className="filters">
      <form ref={form} aria-label="Model and moment" onSubmit={apply}>
        <label>
          Model
          <select name="model" onChange={(event) => event.target.form?.requestSubmit()}>
            {known.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        </label>
        <label>
          As it was at (empty: now)
          <input type="datetime-local" name="at" step={1} />
        </label>
        <button type="submit" className="button">
          Show
        </button>
      </form>
    </div>
  );
}

interface ModelProps {
  data: ObservedData["rollout"];
  asOf: number;
  isPast: boolean;
  refresh: () => void;
}

function Model({ data: { status, history }, asOf, isPast, refresh }: ModelProps) {
  const { model, promoted, previous, weights, rollout, deadline, retiring } = status;
  return (
    <>
      <h2>{model}</h2>
      <dl className="facts">
        <Fact name="State">
          <Badge tone={toneOf(status)}>{status.status}</Badge>
        </Fact>
        <Fact name="Promoted">{promoted ?? "none"}</Fact>
        <Fact name="Before it">{previous ?? "none"}</Fact>
        {retiring !== null && (
          <Fact name="On its way out">
            {retiring.revision}, {retiring.because}
            {retiring.isOverdue && " (overdue)"}
          </Fact>
        )}
        {deadline !== null && (
          <Fact name="Counts as late">
            {deadline > asOf ? `in ${duration(deadline - asOf)}` : `since ${clock(deadline, asOf)}`}
          </Fact>
        )}
      </dl>
      <h3>Traffic</h3>
      <WeightsBar weights={weights} />
      {!isPast && <Actions status={status} refresh={refresh} />}
      {isPast && rollout === null && <p className="hint">No rollout was under way.</p>}
      {rollout !== null && <RolloutProgress rollout={rollout} gates={status.gates} asOf={asOf} />}
      <h3>Groups</h3>
      <DataTable
        caption="Groups of the model"
        hideCaption
        rows={status.groups}
        keyOf={({ groupId }) => groupId}
        empty="It has no group."
        columns={[
          { head: "Group", cell: ({ groupId }) => groupId },
          { head: "Revision", cell: ({ revision }) => revision },
          {
            head: "State",
            cell: ({ isReleased, ...group }) => (
              <>
                {group.status}
                {isReleased && <span className="sub">to be drained</span>}
              </>
            ),
          },
          { head: "Formed in", isNumber: true, cell: ({ formedInMs }) => duration(formedInMs) },
          { head: "Losses", isNumber: true, cell: ({ losses }) => losses ?? "–" },
        ]}
      />
      <Waiting status={status} />
      <RolloutHistory status={status} history={history} asOf={asOf} />
    </>
  );
}

function Actions({ status, refresh }: { status: RolloutStatus; refresh: () => void }) {
  const { mayAct } = useOps();
  const actions = rolloutActions(status);
  const hindrances = [...new Set(actions.flatMap(({ hindrance }) => hindrance ?? []))];
  return (
    <>
      <p className="actions">
        {actions.map((action) => (
          <ActionButton key={placeOf(action)} action={action} onDone={refresh} />
        ))}
      </p>
      <p className="hint">{mayAct === false ? noRight : hindrances.join(" ")}</p>
    </>
  );
}

/** What was paused is resumed by the same button: its dialog stays open to say what has come of it. */
const placeOf = ({ operation: { command } }: Action): string =>
  command === "resume" ? "pause" : command;

function Waiting({ status: { queue } }: { status: RolloutStatus }) {
  if (queue.length === 0) return null;
  return (
    <>
      <h3>In the queue</h3>
      <DataTable
        caption="Rollouts that wait"
        hideCaption
        rows={queue}
        keyOf={({ rolloutId }) => rolloutId}
        empty="None waits."
        columns={[
          { head: "Rollout", cell: ({ rolloutId }) => rolloutId },
          { head: "Revision", cell: ({ revision }) => revision },
          { head: "By", cell: ({ by }) => by },
        ]}
      />
    </>
  );
}

function toneOf({ status }: RolloutStatus): Tone {
  if (status === "serving") return "good";
  if (status === "rolling back" || status === "out of service") return "danger";
  return status === "paused" ? "warn" : "busy";
}
