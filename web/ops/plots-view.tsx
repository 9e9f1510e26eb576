import { type FormEvent, useRef } from "react";
import type { ObservedData } from "../../events/views.ts";
import { replaceAddress } from "../route.ts";
import { fieldOf, useFormValues } from "./form-values.ts";
import { count, duration, perSecond, plural } from "./format.ts";
import { ObservationView } from "./observation-view.tsx";
import { Plot, type PlotSeries } from "./plot.tsx";
import { opsAddress, plotWindows } from "./route.ts";
import { useObserved } from "./use-observed.ts";

interface Props {
  windowMs: number;
  revision: string | undefined;
}

const buckets = 60;

/** Rates and latencies over time, of turns by when they ended. */
export function PlotsView({ windowMs, revision }: Props) {
  const observation = useObserved(
    "series",
    { windowMs, buckets, ...(revision !== undefined && { revision }) },
    { everyMs: Math.max(5_000, windowMs / buckets / 2) },
  );
  return (
    <>
      <h1>Plots</h1>
      <Choice windowMs={windowMs} revision={revision} />
      <ObservationView observation={observation} what="plots">
        {(series) => <Plots series={series} />}
      </ObservationView>
    </>
  );
}

function Choice({ windowMs, revision = "" }: Props) {
  const form = useRef<HTMLFormElement>(null);
  useFormValues(form, { windowMs: `${windowMs}`, revision });
  function apply(event: FormEvent<HTMLFormElement>): void {
    event.preventDefault();
    const chosen = Number(fieldOf(event.currentTarget, "windowMs"));
    const only = fieldOf(event.currentTarget, "revision");
    replaceAddress(
      opsAddress({
        view: "plots",
        windowMs: chosen,
        ...(only !== undefined && { revision: only }),
      }),
    );
  }
  return (
    <div className="filters">
      <form ref={form} aria-label="What is plotted" onSubmit={apply}>
        <label>
          The last
          <select name="windowMs" onChange={(event) => event.target.form?.requestSubmit()}>
            {plotWindows.map((each) => (
              <option key={each} value={each}>
                {each < 3_600_000 ? `${each / 60_000} minutes` : `${each / 3_600_000} hours`}
              </option>
            ))}
          </select>
        </label>
        <label>
          Revision (empty: all)
          <input name="revision" autoComplete="off" />
        </label>
        <button type="submit" className="button">
          Show
        </button>
      </form>
    </div>
  );
}

type Series = ObservedData["series"];
type Point = Series["points"][number];

function Plots({ series: { points, bucketMs } }: { series: Series }) {
  const times = points.map(({ at }) => at);
  const turns = points.reduce((sum, point) => sum + point.turns, 0);
  if (turns === 0) return <p className="hint">No turn has ended in this time.</p>;
  const line = (name: string, of: (point: Point) => number | null): PlotSeries => ({
    name,
    values: points.map(of),
  });
  return (
    <>
      <p className="hint">
        {plural(turns, "turn")}. Each point stands for the turns that ended within{" "}
        {duration(bucketMs)}.
      </p>
      <div className="plots">
        <Plot
          title="Time to first token"
          times={times}
          format={duration}
          series={[
            line("half of the turns (p50)", (point) => point.firstTokenP50Ms),
            line("95 % of them (p95)", (point) => point.firstTokenP95Ms),
          ]}
        />
        <Plot
          title="Inter-token latency"
          times={times}
          format={duration}
          series={[
            line("half of the turns (p50)", (point) => point.interTokenP50Ms),
            line("95 % of them (p95)", (point) => point.interTokenP95Ms),
          ]}
        />
        <Plot
          title="Tokens a second"
          times={times}
          format={perSecond}
          series={[line("tokens", (point) => point.tokensPerSecond)]}
        />
        <Plot
          title="Turns"
          times={times}
          format={count}
          series={[
            line("ended", (point) => point.turns),
            line("of these failed", (point) => point.failed),
          ]}
        />
      </div>
    </>
  );
}
