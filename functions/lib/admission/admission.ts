import * as z from "zod";
import { AxonError } from "../../../events/errors.ts";
import type { RedisClient } from "../../../events/redis-client.ts";
import {
  admissionKeys,
  groupBeatKey,
  groupBeatSchema,
  groupKey,
  groupsKey,
} from "../../../events/redis-keys.ts";
import type { Priority } from "../../../events/turn-events.ts";
import type { Deps } from "../deps.ts";
import { json, provider } from "../provider.ts";
import { runScript } from "../redis-script.ts";
import type { RequestedTurn } from "../streams.ts";
import { admissionScripts } from "./admission-scripts.ts";

/**
 * Admission: how many turns are sent to a revision's queue at a time, and whose are next.
 *
 *   asked     → held        there is no room for it, or its tenant has as many in flight as it may.
 *             → in flight   its job is sent now.
 *   held      → in flight   turns before it have ended, and it is its tenant's turn in the round robin.
 *             → left        it was cancelled.
 *   in flight → left        it has ended, by the report of its leader.
 *   held, in flight → left  nobody has confirmed for too long that it is still open.
 *
 * All of it stands in Redis and nowhere else. What Redis loses the sweep puts together again: it takes
 * in every turn that is open by the log, in the order in which they were asked.
 */
export interface AdmissionSettings {
  /** Turns of one tenant in flight at one revision. */
  tenantInFlight: number;
  /** Turns of one tenant that are held at one revision; further ones are refused. */
  tenantHeld: number;
  /** In flight may be so many times the turns that the living groups can run at once. */
  roomFactor: number;
  /** Turns in flight while no group of the revision is known. */
  defaultRoom: number;
  /** A turn that would wait longer than this is refused. */
  maxWaitMs: number;
  /** By tenant, how often it is served in one round; 1 where it is not named. */
  tenantWeights: Readonly<Record<string, number>>;
}

export const admissionLimits = provider(
  ["admission"],
  z.object({
    AXON_TENANT_IN_FLIGHT: z.coerce.number().int().min(1).default(8),
    AXON_TENANT_WEIGHTS: z
      .string()
      .default("{}")
      .pipe(json)
      .pipe(z.record(z.string(), z.number().min(0.01).max(1_000))),
    AXON_DEFAULT_ROOM: z.coerce.number().int().min(1).default(32),
    AXON_MAX_WAIT_MS: z.coerce.number().int().min(0).default(120_000),
  }),
  (env) => ({
    admission: {
      tenantInFlight: env.AXON_TENANT_IN_FLIGHT,
      tenantWeights: env.AXON_TENANT_WEIGHTS,
      tenantHeld: 100,
      roomFactor: 2,
      defaultRoom: env.AXON_DEFAULT_ROOM,
      maxWaitMs: env.AXON_MAX_WAIT_MS,
    },
  }),
);

/** What of a handler's dependencies admission needs. */
export type AdmissionDeps = Pick<Deps, "redis" | "admission">;

/** Where a held turn stands. Both are estimates. */
export interface QueuePlace {
  /** 1 is next. */
  position: number;
  estimatedWaitMs: number;
}

/** What became of a turn that was taken in. */
export interface Admission {
  /** Undefined for a turn that is in flight: its job is to be sent, if it was not. */
  queue: QueuePlace | undefined;
  /** Other turns whose jobs are to be sent now. */
  released: string[];
}

/**
 * The sweep confirms what is open, once a minute or more often, as long as it has PostgreSQL. A turn in
 * flight that it does not know any more has ended unheard, and keeps others out; one that is held harms
 * nobody, and would lose its place.
 */
const inFlightMs = 300_000;
const heldMs = 6 * 3_600_000;
const ttlMs = 24 * 3_600_000;
/** What a turn is thought to take before any has been measured, and the least it is ever thought to. */
const assumedTurnMs = 5_000;
const leastTurnMs = 50;
/** By one call: more would be more jobs than a handler has the time to send. */
const mostReleased = 100;

/** @throws AxonError overloaded, when a turn would wait too long or its tenant has too many that wait. */
export async function refuseOverload(
  deps: AdmissionDeps,
  revision: string,
  tenantId: string,
  priority: Priority,
): Promise<void> {
  const { tenantHeld, maxWaitMs } = deps.admission;
  const reply = await run(deps, "look", revision, tenantOf(tenantId), priority);
  const [position, waitMs, held] = z.tuple([z.int(), z.int(), z.int()]).parse(reply);
  if (position === 0) return;
  const overdueMs = held >= tenantHeld ? waitMs / (held + 1) : waitMs - maxWaitMs;
  if (held < tenantHeld && waitMs <= maxWaitMs) return;
  const retryAfterMs = Math.max(1_000, Math.ceil(overdueMs));
  const reason =
    held >= tenantHeld
      ? `${held} of your turns wait already`
      : `The wait would be about ${Math.ceil(waitMs / 1_000)} s`;
  throw new AxonError(
    "overloaded",
    `${reason}. Ask again in ${Math.ceil(retryAfterMs / 1_000)} s or later.`,
    { retryAfterMs },
  );
}

/**
 * Takes a turn in, or looks where it stands if it is in.
 * @param isUnderWay a leader has it, or its job is known to be sent: it is in flight, room or not.
 */
export async function admit(
  deps: AdmissionDeps,
  turn: Pick<RequestedTurn, "turnId" | "revision" | "tenantId" | "priority" | "requestedAt">,
  { isUnderWay = false }: { isUnderWay?: boolean } = {},
): Promise<Admission> {
  const { turnId, revision, tenantId, priority, requestedAt } = turn;
  const place = `${tenantOf(tenantId)} ${String(requestedAt).padStart(15, "0")} ${turnId}`;
  const underWay = isUnderWay ? "1" : "0";
  const reply = await run(deps, "admit", revision, turnId, priority, place, underWay);
  const [position, estimatedWaitMs, released] = z
    .tuple([z.int(), z.int(), z.array(z.string())])
    .parse(reply);
  return {
    queue: position === 0 ? undefined : { position, estimatedWaitMs },
    released: released.filter((id) => id !== turnId),
  };
}

/** Lets a turn go that has ended. @returns turns whose jobs are to be sent now. */
export async function leave(
  deps: AdmissionDeps,
  revision: string,
  turnId: string,
): Promise<string[]> {
  return z.array(z.string()).parse(await run(deps, "leave", revision, turnId));
}

/** @returns turns for which there is room by now, whose jobs are to be sent. */
export async function release(deps: AdmissionDeps, revision: string): Promise<string[]> {
  return leave(deps, revision, "");
}

/** Takes back a turn that is held. @returns whether it was: then its job will not be sent. */
export async function withdraw(
  deps: AdmissionDeps,
  revision: string,
  turnId: string,
): Promise<boolean> {
  return (await run(deps, "withdraw", revision, turnId)) === 1;
}

/** Notes that a turn is open, so that its entry stays. */
export async function confirm(
  deps: AdmissionDeps,
  revision: string,
  turnId: string,
): Promise<"in flight" | "held" | "unknown"> {
  const reply = await run(deps, "confirm", revision, turnId);
  return z.enum(["in flight", "held", "unknown"]).parse(reply);
}

/** A tenant's name in a place: without spaces, and without a character that sorts below them. */
export const tenantOf = (tenantId: string): string => encodeURIComponent(tenantId.toWellFormed());

async function run(
  { redis, admission }: AdmissionDeps,
  name: keyof typeof admissionScripts,
  revision: string,
  ...args: string[]
): Promise<unknown> {
  const { tenantInFlight, tenantWeights } = admission;
  const weights = Object.fromEntries(
    Object.entries(tenantWeights).map(([tenantId, weight]) => [tenantOf(tenantId), weight]),
  );
  const room = await roomOf(redis, revision, admission);
  const limits = { room, tenantInFlight, weights, mostReleased };
  const times = { inFlightMs, heldMs, ttlMs, assumedTurnMs, leastTurnMs };
  const settings = JSON.stringify({ ...limits, ...times });
  const keys = Object.values(admissionKeys(revision));
  return runScript(redis, admissionScripts[name], keys, [settings, ...args]);
}

/** A reading counts for a second, which is how often groups tell of themselves. */
const roomTtlMs = 1_000;
const rooms = new WeakMap<RedisClient, Map<string, { slots: number; readAt: number }>>();

/** How many of a revision's turns may be in flight, by the slots of its living groups. */
async function roomOf(
  redis: RedisClient,
  revision: string,
  { roomFactor, defaultRoom }: AdmissionSettings,
): Promise<number> {
  const slots = await livingSlots(redis, revision);
  return slots === 0 ? defaultRoom : Math.ceil(slots * roomFactor);
}

/** Turns that those of a revision's living groups can run at once that take new ones; 0 where none is known. */
export async function livingSlots(redis: RedisClient, revision: string): Promise<number> {
  const known = rooms.get(redis) ?? new Map<string, { slots: number; readAt: number }>();
  rooms.set(redis, known);
  let reading = known.get(revision);
  if (reading === undefined || performance.now() - reading.readAt > roomTtlMs) {
    reading = { slots: await slotsOf(redis, revision), readAt: performance.now() };
    known.set(revision, reading);
  }
  return reading.slots;
}

async function slotsOf(redis: RedisClient, revision: string): Promise<number> {
  const groupIds = await redis.zrange(groupsKey(revision), "0", "-1");
  const slots = await Promise.all(groupIds.map((groupId) => slotsOfGroup(redis, groupId)));
  return slots.reduce((sum, own) => sum + own, 0);
}

const beatJson = json.pipe(groupBeatSchema);

async function slotsOfGroup(redis: RedisClient, groupId: string): Promise<number> {
  // A group whose hash has expired is gone; what it said last is kept for longer.
  const [slots, beat] = await Promise.all([
    redis.hget(groupKey(groupId), "slots"),
    redis.get(groupBeatKey(groupId)),
  ]);
  // Of a beat that cannot be read nothing is known but that the group is there.
  const isDraining = beat !== null && beatJson.safeParse(beat).data?.isAccepting === false;
  return isDraining ? 0 : Number(slots ?? 0);
}
