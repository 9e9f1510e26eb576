import type { Random } from "../../test/simulation/random.ts";
import { handlers, quotas } from "./assumptions.ts";
import { demandOf } from "./demand.ts";

/**
 * All relays of one of three zones are lost at once, and their clients come back: event by event, each
 * client by itself, in ticks of 10 ms.
 */
export interface StormResult {
  connections: number;
  /** That lost their connection and want it back. */
  coming: number;
  /** Handshakes that the door takes in a second. */
  doorPerSecond: number;
  attemptsPerClient: number;
  /** In the busiest second. */
  mostAttemptsPerSecond: number;
  /** When half of them, 99 % and all are back, seconds after the loss. */
  backSeconds: { half: number; most: number; all: number };
  /** Lambda functions at a time, at most, to let them in. */
  lambdaConcurrency: number;
}

/** Who comes back by itself: with Axon's client, only who waits for an answer (client/client.ts). */
export type WhoComes = "waiting" | "everybody";
/** Through API Gateway, or the relays that are left. */
export type Door = "API Gateway" | "relays";

const zones = 3;
/** Handshakes that one relay takes: assumed; TLS ends at the load balancer, each invokes `connect`. */
const relayHandshakesPerSecond = 200;
/**
 * A zone that is gone says no goodbye: the load balancer resets connections as its health checks of their
 * relays fail, each at its own moment of an interval of 10 s.
 */
const noticedWithinSeconds = 10;
/** The client's backoff: it doubles up to 5 s, and each delay is drawn from its upper half. */
const firstDelayMs = 100;
const mostDelayMs = 5_000;

const tickMs = 10;
const ticksPerSecond = 1_000 / tickMs;

export function simulateStorm(
  connections: number,
  door: Door,
  who: WhoComes,
  random: Random,
): StormResult {
  const { running, relays } = demandOf(connections);
  const share = who === "waiting" ? running / connections : 1;
  const coming = Math.round((connections / zones) * share);
  const doorPerSecond =
    door === "API Gateway"
      ? quotas.newConnectionsPerSecond
      : Math.min(
          Math.max(1, Math.floor((relays * (zones - 1)) / zones)) * relayHandshakesPerSecond,
          quotas.lambdaConcurrency / handlers.connect,
        );
  const { attempts, busiest, backAt } = comeBack(coming, doorPerSecond, random);
  const at = (p: number) => (backAt[Math.ceil(p * backAt.length) - 1] ?? 0) / ticksPerSecond;
  return {
    ...{ connections, coming, doorPerSecond },
    attemptsPerClient: attempts / Math.max(1, coming),
    mostAttemptsPerSecond: busiest,
    backSeconds: { half: at(0.5), most: at(0.99), all: at(1) },
    lambdaConcurrency: Math.min(doorPerSecond, busiest) * handlers.connect,
  };
}

/** More ticks than anybody ever waits. */
const wheelTicks = 2_048;
const nobody = -1;

/** Clients by the tick of their next attempt: a list for each tick of a wheel, threaded through `after`. */
function timingWheel(clients: number) {
  const first = new Int32Array(wheelTicks).fill(nobody);
  const after = new Int32Array(clients);
  return {
    add(tick: number, client: number): void {
      after[client] = first[tick % wheelTicks] ?? nobody;
      first[tick % wheelTicks] = client;
    },
    *take(tick: number): Generator<number> {
      let client = first[tick % wheelTicks] ?? nobody;
      first[tick % wheelTicks] = nobody;
      while (client !== nobody) {
        const next = after[client] ?? nobody;
        yield client;
        client = next;
      }
    },
  };
}

/** @returns `backAt`: the tick of each client's return, in order. */
function comeBack(coming: number, doorPerSecond: number, random: Random) {
  const failures = new Uint8Array(coming).fill(1);
  const wheel = timingWheel(coming);
  for (let client = 0; client < coming; client++) {
    const noticed = random.next() * noticedWithinSeconds * ticksPerSecond;
    wheel.add(Math.floor(noticed + backoffTicks(random, 1)), client);
  }
  const backAt: number[] = [];
  let [attempts, busiest, ofSecond, tokens] = [0, 0, 0, doorPerSecond];
  for (let tick = 0; backAt.length < coming; tick++) {
    if (tick % ticksPerSecond === 0) ofSecond = 0;
    // A bucket that holds one second's worth.
    tokens = Math.min(doorPerSecond, tokens + doorPerSecond / ticksPerSecond);
    for (const client of wheel.take(tick)) {
      attempts++;
      ofSecond++;
      if (tokens >= 1) {
        tokens--;
        backAt.push(tick);
        continue;
      }
      const failed = Math.min(20, (failures[client] ?? 0) + 1);
      failures[client] = failed;
      wheel.add(tick + Math.ceil(backoffTicks(random, failed)), client);
    }
    busiest = Math.max(busiest, ofSecond);
  }
  return { attempts, busiest, backAt };
}

function backoffTicks(random: Random, failures: number): number {
  const delayMs = Math.min(mostDelayMs, firstDelayMs * 2 ** failures);
  return (delayMs * (0.5 + random.next() / 2)) / tickMs;
}
