import { useEffect, useId, useState } from "react";
import { clock } from "./format.ts";

interface Props {
  /** What the log covers, Unix ms. */
  first: number;
  last: number;
  /** The moment that is shown; undefined: now, as the log grows. */
  at: number | undefined;
  onChoose: (at: number | undefined) => void;
}

/** Every key press moves by so much of the whole. */
const steps = 1_000;
/** Whoever drags is followed after a moment's rest, not at each pixel. */
const restMs = 150;

/** Goes through time. At its right end it is now, and the log is shown as it grows. */
export function TimeSlider({ first, last, at, onChoose }: Props) {
  const id = useId();
  const [dragged, setDragged] = useState<number>();
  const span = Math.max(1, last - first);
  const placeOf = (time: number) => Math.round(((time - first) / span) * steps);
  const place = dragged ?? (at === undefined ? steps : Math.min(steps, Math.max(0, placeOf(at))));
  const time = momentOf(place);

  function momentOf(where: number): number | undefined {
    return where >= steps ? undefined : Math.round(first + (where / steps) * span);
  }

  // biome-ignore lint/correctness/useExhaustiveDependencies: what is chosen is the place it rests at
  useEffect(() => {
    if (dragged === undefined) return;
    const timer = setTimeout(() => {
      onChoose(momentOf(dragged));
      setDragged(undefined);
    }, restMs);
    return () => clearTimeout(timer);
  }, [dragged]);

  const shown = dragged === undefined ? at : time;
  const text = shown === undefined ? "now, as it grows" : clock(shown, Date.now());
  return (
    <div className="time-slider">
      <label htmlFor={id}>The log up to</label>
      <output htmlFor={id}>{text}</output>
      <input
        id={id}
        type="range"
        min={0}
        max={steps}
        value={place}
        aria-valuetext={text}
        onChange={(event) => setDragged(Number(event.target.value))}
      />
      <span className="ends">
        <span>{clock(first, Date.now())}</span>
        <button
          type="button"
          className="button"
          aria-disabled={at === undefined}
          onClick={() => at !== undefined && onChoose(undefined)}
        >
          Now
        </button>
      </span>
    </div>
  );
}
