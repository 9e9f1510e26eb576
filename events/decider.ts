/**
 * A decider is three pure functions. `decide` turns a command into the events it causes, `evolve`
 * folds one event into the state, `initialState` is where every fold starts. A decider that has
 * nothing to say about a command (a duplicate, a late report) returns no events.
 */
export interface Decider<Command, Event, State> {
  initialState(): State;
  decide(command: Command, state: State): Event[];
  evolve(state: State, event: Event): State;
}

/** The state after `events`, oldest first. */
export function fold<Command, Event, State>(
  decider: Decider<Command, Event, State>,
  events: Iterable<Event>,
): State {
  let state = decider.initialState();
  for (const event of events) state = decider.evolve(state, event);
  return state;
}
