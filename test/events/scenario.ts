import { expect } from "vitest";
import { type Decider, fold } from "../../events/decider.ts";
import type { AxonError } from "../../events/errors.ts";

/** A decider's test as a sentence: given these facts, when this is asked, then these facts follow. */
export function scenarios<Command, Event, State>(decider: Decider<Command, Event, State>) {
  return {
    given: (...facts: Event[]) => ({
      when(command: Command) {
        const decide = () => decider.decide(command, fold(decider, facts));
        return {
          // biome-ignore lint/suspicious/noThenProperty: nobody awaits it; it is read as a sentence.
          then: (...expected: Event[]) => expect(decide()).toEqual(expected),
          thenNothing: () => expect(decide()).toEqual([]),
          thenRefused: (code: AxonError["code"], field?: string) =>
            expect(decide).toThrow(expect.objectContaining({ code, field })),
        };
      },
    }),
  };
}
