/**
 * What users are promised, as service level objectives: a share of good events over 30 days. Processes
 * count against them, dashboards draw them, and alerts ring when too much of what may go wrong has gone wrong
 * too fast (docs/OBSERVABILITY.md, "Alarms").
 */
export const objectives = {
  /** From the request until the first token is in the stream, the queue included. */
  firstToken: { withinSeconds: 2.5, share: 0.99 },
  /** Between two tokens of a turn. 100 ms is faster than people read. */
  interToken: { withinSeconds: 0.1, share: 0.99 },
  /** Turns that end with an answer, as the user has stopped it, or with a refusal that is the user's to mend. */
  answered: { share: 0.999 },
} as const;

/** Codes of failed turns that no engine anywhere would have answered. */
export const refusedCodes: ReadonlySet<string> = new Set(["invalid_request", "prompt_too_long"]);
