import type { Random } from "./random.ts";
import type { VirtualTime } from "./virtual-time.ts";

/** How bad things are at the moment: probabilities. */
export interface Weather {
  /** That a message travels for long, up to `slowMs`. */
  slow: number;
  slowMs: number;
  /** That a connection to Redis breaks while a call is under way: done or not, it is made again. */
  breaks: number;
  /** That a notification never arrives. */
  lostNotification: number;
  /** That the answer to a call of a queue or of the gateway is lost: the call failed or was done. */
  lostAnswer: number;
  /** That a function dies at its next step. */
  deadFunction: number;
  /** That a queue hands out a message that somebody has already. */
  secondDelivery: number;
}

export const calm: Weather = {
  ...{ slow: 0, slowMs: 0, breaks: 0, lostNotification: 0, lostAnswer: 0 },
  ...{ deadFunction: 0, secondDelivery: 0 },
};

/** Bugs that can be planted, to see that they are found. */
export interface PlantedBugs {
  /** Appends are let through whatever their epoch. */
  appendIgnoresEpochs?: boolean;
  /** The client takes every frame for one of its own epoch. */
  clientIgnoresEpochs?: boolean;
  /** The relay never cuts a connection back. */
  relayNeverRewinds?: boolean;
}

/** What all that happens in a schedule shares. */
export interface World {
  time: VirtualTime;
  random: Random;
  weather: Weather;
  bugs: PlantedBugs;
  /** Notes what happens, where somebody wants to read it. */
  log: ((who: string, what: string) => void) | undefined;
}

/** How long a message is on its way, ms. */
export function travelMs({ random, weather }: World): number {
  if (random.chance(weather.slow)) return random.between(1, weather.slowMs);
  return random.between(0.2, 1.5);
}

/** An invariant does not hold. */
export class Violation extends Error {
  override readonly name = "Violation";
}
