import type { Process } from "./process.ts";
import type { Random } from "./random.ts";
import type { Stage } from "./stage.ts";
import { calm, type Weather } from "./world.ts";

/** Faults stop after this, and time goes on. */
export const faultsMs = 9_000;

/** A fault: it draws what it hits, and how hard. */
type Fault = (stage: Stage) => void;

const living = <T extends { process: Process }>(parts: readonly T[]): T[] =>
  parts.filter(({ process }) => process.alive && !process.paused);

const crashLeader: Fault = (stage) => {
  const { world, leaders } = stage;
  const leader = world.random.pick(living(leaders));
  if (leader === undefined) return;
  world.log?.(leader.process.name, "crashes");
  leader.process.die();
  world.time.after(world.random.between(100, 5_000), () => stage.startLeader());
};

const drainLeader: Fault = (stage) => {
  const { world, leaders } = stage;
  const leader = world.random.pick(living(leaders));
  if (leader === undefined) return;
  world.log?.(leader.process.name, "drains");
  leader.process.spawn(leader.drain());
  world.time.after(world.random.between(100, 2_000), () => stage.startLeader());
};

const crashRelay: Fault = (stage) => {
  const { world, relays } = stage;
  const relay = world.random.pick(living(relays));
  if (relay === undefined) return;
  world.log?.(relay.process.name, "crashes");
  relay.process.die();
  world.time.after(world.random.between(100, 5_000), () => stage.startRelay());
};

const stopRelay: Fault = (stage) => {
  const { world, relays } = stage;
  const relay = world.random.pick(living(relays));
  if (relay === undefined) return;
  world.log?.(relay.process.name, "stops");
  relay.process.spawn(relay.stop());
  world.time.after(world.random.between(100, 2_000), () => stage.startRelay());
};

/** Stopped for long enough to lose what it has, it goes on as if nothing had happened. */
const pause: Fault = (stage) => {
  const { world, leaders, relays } = stage;
  const process = world.random.pick([...living(leaders), ...living(relays)])?.process;
  if (process === undefined) return;
  const ms = world.random.between(50, 7_000);
  world.log?.(process.name, `is stopped for ${Math.round(ms)} ms`);
  process.pause();
  stage.faultsUnderWay++;
  world.time.after(ms, () => {
    world.log?.(process.name, "goes on");
    process.goOn();
    stage.faultsUnderWay--;
  });
};

/** Redis goes away, and comes back with what it had some moments before, or with nothing. */
const loseRedis: Fault = (stage) => {
  const { world, redis, controlPlane } = stage;
  const { random, time } = world;
  const lostMs = random.chance(0.3) ? 0 : random.between(0, 1_500);
  const losesAll = random.chance(0.3);
  const restore = redis.snapshot();
  stage.faultsUnderWay++;
  const sealedBefore = new Set(controlPlane.turnIds.filter((id) => isSealed(id)));
  function isSealed(turnId: string): boolean {
    return redis.streams.turn(turnId)?.end !== undefined;
  }
  time.after(lostMs, () => {
    if (!redis.isUp) {
      stage.faultsUnderWay--;
      return;
    }
    // An answer that was told to its end would be given again, in other words: see schedule.ts.
    const wouldUnseal = controlPlane.turnIds.some(
      (id) => isSealed(id) && (losesAll || !sealedBefore.has(id)),
    );
    const keeps = lostMs === 0 || (stage.answersMayDiffer && wouldUnseal);
    const loss = keeps
      ? "loses nothing"
      : losesAll
        ? "loses all"
        : `loses ${Math.round(lostMs)} ms`;
    world.log?.("Redis", `goes away and ${loss}`);
    redis.goAway();
    if (!keeps && losesAll) redis.loseAll();
    else if (!keeps) restore();
    time.after(random.between(50, 3_000), () => {
      world.log?.("Redis", "is back");
      redis.comeBack();
      stage.faultsUnderWay--;
    });
  });
};

const breakConnections: Fault = ({ world, redis }) => {
  const connection = world.random.pick([...redis.connections]);
  connection?.break();
};

const cutReader: Fault = ({ world, gateway }) => {
  const connectionId = world.random.pick(gateway.open);
  if (connectionId === undefined) return;
  const unnoticedMs = world.random.chance(0.5) ? 0 : world.random.between(0, 20_000);
  world.log?.(connectionId, `loses its network, unnoticed for ${Math.round(unnoticedMs)} ms`);
  gateway.cut(connectionId, unnoticedMs);
};

const leave: Fault = ({ world, readers }) => {
  const reader = world.random.pick(readers);
  if (reader === undefined || reader.hasEnded) return;
  world.log?.(reader.name, "leaves");
  reader.leave();
};

const cancel: Fault = ({ world, readers }) => {
  const reader = world.random.pick(readers);
  if (reader === undefined || reader.hasEnded || reader.hasLeft) return;
  world.log?.(reader.name, "cancels");
  reader.cancel();
};

const loseJobs: Fault = ({ world, jobs, controlPlane }) => {
  world.log?.("the queue", "loses its jobs");
  jobs.loseAll();
  if (world.random.chance(0.7)) controlPlane.sweepAll();
};

const follow: Fault = (stage) => {
  const turnId = stage.world.random.pick(stage.controlPlane.turnIds);
  if (turnId !== undefined) stage.startReader(turnId);
};

/** Each as often as it stands here. */
const faults: readonly Fault[] = [
  ...[crashLeader, crashLeader, crashLeader, drainLeader, pause, pause, pause],
  ...[crashRelay, stopRelay, loseRedis, loseRedis, loseRedis, breakConnections],
  ...[cutReader, cutReader, leave, cancel, loseJobs, follow],
];

/** Draws what will go wrong, and when. */
export function planFaults(stage: Stage): void {
  const { random, time } = stage.world;
  const count = random.whole(0, 7);
  for (let i = 0; i < count; i++) {
    const fault = random.pick(faults);
    if (fault !== undefined) time.after(random.between(0, faultsMs), () => fault(stage));
  }
}

/** Many schedules have a perfect network: there what goes wrong is what processes do. */
export function drawWeather(random: Random): Weather {
  if (random.chance(0.3)) return calm;
  const sometimes = (most: number) => (random.chance(0.5) ? random.between(0, most) : 0);
  return {
    slow: sometimes(0.05),
    slowMs: random.between(5, 3_000),
    breaks: sometimes(0.02),
    lostNotification: sometimes(0.5),
    lostAnswer: sometimes(0.1),
    deadFunction: sometimes(0.1),
    secondDelivery: sometimes(0.3),
  };
}
