import { setTimeout as sleep } from "node:timers/promises";
import { AxonError } from "../../events/errors.ts";
import type { DomainEvent } from "../../events/event-catalog.ts";
import { type Commit, type EventLog, VersionConflict } from "../../events/event-log.ts";
import { type Loaded, load, type StreamKind } from "./streams.ts";

/** What came of a command. */
export interface Execution<Event, State> {
  /** The new events; none when the command changed nothing. */
  events: Event[];
  state: State;
  commit: Commit | undefined;
}

const mostAttempts = 8;

/**
 * Load, decide, append; and all of it again when someone else has written to the stream meanwhile.
 * `commandFor` is asked on each attempt, since what it looks up may depend on the new state.
 * `loaded` saves the first load to a caller who has read the stream already.
 * @throws what the decider throws; AxonError unavailable when the stream is written to all the time.
 */
export async function execute<Command, Event extends DomainEvent, State>(
  log: EventLog,
  kind: StreamKind<Command, Event, State>,
  id: string,
  commandFor: (current: Loaded<Event, State>) => NoInfer<Command> | Promise<NoInfer<Command>>,
  loaded?: Loaded<Event, State>,
): Promise<Execution<Event, State>> {
  const { decide, evolve } = kind.decider;
  let known = loaded;
  let conflict: unknown;
  for (let attempt = 0; attempt < mostAttempts; attempt++) {
    const current = known ?? (await load(log, kind, id));
    const events = decide(await commandFor(current), current.state);
    if (events.length === 0) return { events, state: current.state, commit: undefined };
    try {
      const commit = await log.append(kind.nameOf(id), current.version, events);
      return { events, state: events.reduce(evolve, current.state), commit };
    } catch (error) {
      if (!(error instanceof VersionConflict)) throw error;
      conflict = error;
      known = undefined;
      // Writers that have met once would meet again if they all waited equally long.
      await sleep(Math.random() * 5 * 2 ** attempt);
    }
  }
  throw new AxonError(
    "unavailable",
    "Too many requests change the same thing. Try again shortly.",
    {
      cause: conflict,
    },
  );
}
