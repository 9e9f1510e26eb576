import { useEffect, useId, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useTheme } from "../theme.ts";
import { DataTable } from "./data-table.tsx";
import { clock, timeOfDay } from "./format.ts";
import { lonePoints } from "./lone-points.ts";

export interface PlotSeries {
  name: string;
  /** By time; null where there is none. */
  values: readonly (number | null)[];
}

interface Props {
  title: string;
  /** Unix ms, rising. */
  times: readonly number[];
  series: readonly PlotSeries[];
  format: (value: number | null) => string;
}

const heightPx = 200;

/** Lines over time, told apart by colour and by dashes, and the same figures as a table. */
export function Plot({ title, times, series, format }: Props) {
  const titleId = useId();
  const [pointed, setPointed] = useState<number>();
  const frame = usePlot({ times, series, format, onPoint: setPointed });
  const shown = pointed ?? lastKnown(series);
  const time = shown === undefined ? undefined : times[shown];
  return (
    <figure className="plot" aria-labelledby={titleId}>
      <figcaption>
        <h2 id={titleId}>{title}</h2>
        <ul className="legend">
          {series.map(({ name, values }, i) => (
            <li key={name}>
              <svg className={`line-${i}`} viewBox="0 0 28 4" aria-hidden="true">
                <path d="M0 2h28" />
              </svg>
              {name} <b>{format(shown === undefined ? null : (values[shown] ?? null))}</b>
            </li>
          ))}
          {time !== undefined && <li className="hint">at {clock(time, Date.now())}</li>}
        </ul>
      </figcaption>
      <div ref={frame} className="plot-frame" aria-hidden="true" />
      <details>
        <summary>{title} as a table</summary>
        <DataTable
          caption={title}
          hideCaption
          rows={times
            .map((at, i) => ({ at, values: series.map(({ values }) => values[i] ?? null) }))
            .filter(({ values }) => values.some((value) => value !== null))
            .toReversed()}
          keyOf={({ at }) => `${at}`}
          empty="There are no figures."
          columns={[
            { head: "From", cell: ({ at }) => clock(at, Date.now()) },
            ...series.map(({ name }, i) => ({
              head: name,
              isNumber: true,
              cell: ({ values }: { values: (number | null)[] }) => format(values[i] ?? null),
            })),
          ]}
        />
      </details>
    </figure>
  );
}

function lastKnown(series: readonly PlotSeries[]): number | undefined {
  const lengths = series.map(({ values }) => values.findLastIndex((value) => value !== null));
  const last = Math.max(-1, ...lengths);
  return last < 0 ? undefined : last;
}

interface Drawn extends Omit<Props, "title"> {
  /** The point nearest to the pointer; undefined when it has left. */
  onPoint: (index: number | undefined) => void;
}

/** Draws into the element that the result is given to, as wide as that is, in the page's colours. */
function usePlot({ times, series, format, onPoint }: Drawn) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const [theme] = useTheme();
  const names = series.map(({ name }) => name).join("\n");
  const data = [
    times.map((at) => at / 1_000),
    ...series.map(({ values }) => [...values]),
  ] as uPlot.AlignedData;
  const latest = useRef(data);
  latest.current = data;

  // biome-ignore lint/correctness/useExhaustiveDependencies: the colours are the theme's
  useEffect(() => {
    const element = frame.current;
    if (element === null) return;
    const options = optionsFor(element, names.split("\n"), format, onPoint);
    const drawn = new uPlot(options, latest.current, element);
    plot.current = drawn;
    const observer = new ResizeObserver(() => {
      drawn.setSize({ width: element.clientWidth, height: heightPx });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      drawn.destroy();
      plot.current = undefined;
    };
  }, [names, format, onPoint, theme]);

  useEffect(() => plot.current?.setData(data));
  return frame;
}

function optionsFor(
  element: HTMLElement,
  names: readonly string[],
  format: Props["format"],
  onPoint: Drawn["onPoint"],
): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis: uPlot.Axis = {
    stroke: colour("--soft"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
    font: `12px ${style.fontFamily}`,
  };
  return {
    width: element.clientWidth,
    height: heightPx,
    legend: { show: false },
    cursor: { drag: { x: false, y: false }, sync: { key: "operations" } },
    scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, high * 1.1)] } },
    axes: [
      { ...axis, values: (_plot, splits) => splits.map((seconds) => timeOfDay(seconds * 1_000)) },
      { ...axis, size: 64, values: (_plot, splits) => splits.map((value) => format(value)) },
    ],
    series: [
      {},
      ...names.map(
        (label, i): uPlot.Series => ({
          label,
          stroke: colour(`--line-${i}`),
          width: 2,
          dash: i === 0 ? [] : [6, 4],
          points: {
            size: 5,
            // Null is all of them, where there is room.
            filter: (plot, at, show) => (show ? null : lonePoints(plot.data[at] ?? [])),
          },
          spanGaps: false,
        }),
      ),
    ],
    hooks: { setCursor: [({ cursor }) => onPoint(cursor.idx ?? undefined)] },
  };
}
