/** Something that must hold does not. */
export class Violation extends Error {
  override readonly name = "Violation";
}

/** Faults that are built in, to see that they are found. */
export interface PlantedBugs {
  /** The routing takes weights that are older than those in force. */
  unfencedWeights?: boolean;
  /** A group counts as ready as soon as it is started. */
  countForming?: boolean;
  /** A group's heartbeat says that it runs nothing. */
  overlookTurns?: boolean;
  /** Errors and latencies are not seen. */
  blindGates?: boolean;
}
