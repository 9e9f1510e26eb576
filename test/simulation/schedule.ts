import { drawWeather, faultsMs, planFaults } from "./faults.ts";
import { Random } from "./random.ts";
import { Stage } from "./stage.ts";
import { inVirtualTime, VirtualTime } from "./virtual-time.ts";
import { calm, type PlantedBugs, Violation, type World } from "./world.ts";

/**
 * A simulation of turns: leaders, relays, the functions, the queues, Redis and readers, on virtual time and
 * a network that is drawn from a seed. The same seed gives the same schedule, whatever machine runs it.
 *
 * Real code: the client (client/), the turn's decider (events/turn.ts), a relay's feeds and when they may
 * be cut (dataplane/relay/feed.ts), what is told from the log and when (functions/lib/turns/replay.ts). Written
 * after the real code, step by step: leader.ts, relay.ts, delivery.ts, control-plane.ts here. The scripts of
 * Redis are those of memory-streams.ts, which passes the same contract as the real ones.
 *
 * What is assumed:
 * - Redis runs one script at a time, and its clock does not go back, also in a failover.
 * - Calls to Redis keep their order on a connection; one without an answer is made again on the next.
 * - Notifications, answers of queues and gateway, functions between two steps: each may be lost. Appends to
 *   the log are atomic and stay. A queue of jobs may lose them; the sweep sends them again.
 * - Frames of one connection arrive in order. All connections are the gateway's; a relay's own door is not
 *   simulated.
 * - Redis may lose its last 1.5 s, or all. Where an answer that is given again may come out differently (by
 *   another leader's words, or cut by a cancel), it does not lose the end of a stream: who was told an end
 *   that is lost before the log has it, or reads on in a stream whose end was lost, would be told another.
 *
 * What must hold, after each step: a stale leader changes nothing; sequence numbers of a stream have no
 * gap, its epochs never go back, and a place of an epoch has one text; what a reader has was held by the
 * stream up to that place of that epoch; a turn ends once in the log. And in the end, when faults have
 * stopped and time has gone on: every turn has ended, every reader has the record's text, and nothing is
 * left in queues, leases and watchers.
 */

/** How a schedule went. */
export interface Outcome {
  /** What does not hold; undefined when all is well. */
  violation: string | undefined;
  /** Virtual time from the first question until nothing was left to do, ms. */
  tookMs: number;
  /** How many things happened. */
  steps: number;
}

interface Options {
  bugs?: PlantedBugs;
  /** Hears what happens, by virtual ms. */
  onLine?: (atMs: number, who: string, what: string) => void;
}

/** After the faults, all must be done in this time: a marker of a lost job, and the longest reminder. */
const patienceMs = 300_000;

/** Some fifty times what a schedule takes. */
const mostSteps = 100_000;

/** Runs the schedule of a seed. */
export async function runSchedule(
  seed: number,
  { bugs = {}, onLine }: Options = {},
): Promise<Outcome> {
  const time = new VirtualTime();
  const random = new Random(seed);
  const startedAt = time.now;
  const world: World = {
    ...{ time, random, bugs, weather: drawWeather(random), log: undefined },
  };
  if (onLine !== undefined) world.log = (who, what) => onLine(time.now - startedAt, who, what);
  let stage: Stage | undefined;
  let steps = 0;
  try {
    inVirtualTime(
      time,
      () => random.next(),
      () => {
        stage = openStage(world, seed);
        steps = play(stage);
      },
    );
    // Promises are kept after the schedule: in virtual time no other code runs.
    await new Promise((resolve) => setImmediate(resolve));
    if (stage !== undefined) checkTold(stage);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return { violation: error.message, tookMs: time.now - startedAt, steps };
  }
  return { violation: undefined, tookMs: time.now - startedAt, steps };
}

function openStage(world: World, seed: number): Stage {
  const { random, time } = world;
  const stage = new Stage(world, seed % 2 === 1);
  for (let i = random.whole(2, 3); i > 0; i--) stage.startLeader();
  for (let i = 0; i < 2; i++) stage.startRelay();
  for (let i = random.whole(1, 3); i > 0; i--) {
    time.after(random.between(0, 3_000), () => stage.startReader());
  }
  for (let i = random.whole(0, 3); i > 0; i--) {
    time.after(random.between(500, 8_000), () => {
      const turnId = random.pick(stage.controlPlane.turnIds);
      if (turnId !== undefined) stage.startReader(turnId);
    });
  }
  planFaults(stage);
  return stage;
}

/** @returns how many steps it took. */
function play(stage: Stage): number {
  const { world } = stage;
  const { time } = world;
  const calmAt = time.now + faultsMs;
  const deadline = calmAt + patienceMs;
  let steps = 0;
  let lookAt = calmAt;
  let areClosed = false;
  while (time.step()) {
    if (++steps > mostSteps) throw new Violation("it goes round in circles");
    if (time.now < lookAt) continue;
    lookAt = time.now + 250;
    if (world.weather !== calm) world.weather = calm;
    const waiting = stage.leftovers();
    if (waiting.length === 0) break;
    if (!areClosed && stage.isRead && stage.faultsUnderWay === 0) {
      areClosed = true;
      stage.closeReaders();
    }
    if (time.now > deadline) throw new Violation(`in the end: ${waiting.join("; ")}`);
  }
  stage.checkTexts();
  return steps;
}

function checkTold(stage: Stage): void {
  for (const { name, told, text, hasLeft, turn } of stage.readers) {
    if (!hasLeft && told !== text) {
      throw new Violation(`${name} was told "${told}" of ${turn.turnId}, and has read "${text}"`);
    }
  }
}
