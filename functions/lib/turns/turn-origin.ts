import { AxonError } from "../../../events/errors.ts";
import type { TurnEvent } from "../../../events/turn-events.ts";
import type { Deps } from "../deps.ts";
import { readPast } from "../rollout/rollout-past.ts";
import { turns } from "../streams.ts";

/** Who has produced a turn. */
export interface TurnOrigin {
  turnId: string;
  status: string;
  model: string;
  revision: string;
  requestedAt: number;
  /** Each leader that had it, in order; `emittedTokens` were there before it. */
  runs: { groupId: string; leaderId: string; epoch: number; at: number; emittedTokens: number }[];
  /** Those in force when it was asked for; the conversation may have kept it where it was all the same. */
  weights: readonly { revision: string; percent: number }[];
  /** The rollout under way then. */
  rolloutId: string | null;
}

/**
 * Which revision and groups have produced a turn. Not a word of it is told.
 * @throws AxonError turn_not_found
 */
export async function turnOrigin(deps: Pick<Deps, "log">, turnId: string): Promise<TurnOrigin> {
  const commits = await deps.log.read(turns.nameOf(turnId));
  const events = commits.flatMap((commit) => commit.events).filter(turns.isOwn);
  const [requested] = events;
  const [first] = commits;
  if (requested?.type !== "TurnRequested" || first === undefined) {
    throw new AxonError("turn_not_found", `There is no turn ${turnId}.`, { field: "turnId" });
  }
  const { model, revision, at: requestedAt } = requested;
  const { state } = await readPast(deps, model, { position: first.position });
  const { status } = events.reduce(turns.decider.evolve, turns.decider.initialState());
  return {
    ...{ turnId, status, model, revision, requestedAt },
    runs: runsOf(events),
    weights: state.weights,
    rolloutId: state.current?.request.rolloutId ?? null,
  };
}

function runsOf(events: readonly TurnEvent[]): TurnOrigin["runs"] {
  return events.flatMap((event) => {
    if (event.type !== "TurnStarted" && event.type !== "TurnTakenOver") return [];
    const { groupId, leaderId, epoch, at } = event;
    const emittedTokens = event.type === "TurnTakenOver" ? event.emittedTokens : 0;
    return [{ groupId, leaderId, epoch, at, emittedTokens }];
  });
}
