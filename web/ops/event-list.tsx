import { type ShownEvent, summaryOf } from "./event-summary.ts";
import { exactClock } from "./format.ts";
import { JsonView } from "./json-view.tsx";

/** Events, each a line that opens. */
export function EventList({ events, now }: { events: readonly ShownEvent[]; now: number }) {
  return (
    <ol className="events">
      {events.map((event, i) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: what is written keeps its order
        <li key={`${i}-${event.type}`}>
          <details>
            <summary>
              <b>{event.type}</b> <time>{exactClock(event.at, now)}</time>{" "}
              <span className="aside">{summaryOf(event)}</span>
            </summary>
            <JsonView label={event.type} value={event} />
          </details>
        </li>
      ))}
    </ol>
  );
}
