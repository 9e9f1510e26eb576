import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type BusyStage, busyStage, request } from "../stage/busy-stage.ts";
import { operator, type Status } from "../stage/operator.ts";
import { recorded } from "../stage/reading.ts";
import { eventually } from "../support/eventually.ts";

/**
 * One rollout after the other, while twenty clients chat all the time; in each of them one of the processes
 * is killed (SIGKILL) once in every phase. Whichever it is, the rollout ends as it would have, and nobody
 * notices.
 */

const victims = ["control plane", "new group", "old group"] as const;
type Victim = (typeof victims)[number];

interface Phase {
  name: string;
  is(now: Status): boolean;
}

const inStatus = (name: string): Phase => ({ name, is: ({ status }) => status === name });
const canary = (percent: number): Phase => ({
  name: `canary, ${percent} %`,
  is: ({ status, rollout }) => status === "canary" && rollout?.percent === percent,
});
/** As soon as it is asked for: most likely while it waits for machines. There is no new group then. */
const requested: Phase = { name: "requested", is: ({ rollout }) => rollout !== null };

/** Phases in which a kill comes, and how the rollout ends. */
interface Plan {
  phases: Phase[];
  /** The step in which an operator rolls it back. */
  rollBackIn?: Phase;
  outcome: "promoted" | "rolled back";
}

const plans: Plan[] = [
  {
    phases: [
      ...[requested, inStatus("forming"), canary(10), canary(50), canary(100)],
      inStatus("draining"),
    ],
    outcome: "promoted",
  },
  { phases: [inStatus("rolling back")], rollBackIn: canary(50), outcome: "rolled back" },
];
const cases = plans.flatMap(({ phases, ...plan }) =>
  victims.map((victim) => {
    const own = phases.filter((phase) => victim !== "new group" || phase !== requested);
    return { plan: { ...plan, phases: own }, victim, outcome: plan.outcome };
  }),
);

let busy: BusyStage;
const seen: string[] = [];

beforeAll(async () => {
  busy = await busyStage(
    { "guide-a": {}, "guide-b": {} },
    // Longer answers are more often caught in the middle; and the machine may have others to serve.
    { maxTokens: 60, msPerToken: 100, rolloutMs: 500_000 },
  );
});
afterAll(() => busy?.stop());

/** @returns whether there was one to kill: of the rollout's revision, or of the one that served before. */
async function strike(now: Status, victim: Victim, target: string): Promise<boolean> {
  if (victim === "control plane") return busy.kill(victim);
  const isMeant = ({ revision }: { revision: string }) =>
    (revision === target) === (victim === "new group");
  const groupId = now.groups.find(isMeant)?.groupId;
  return groupId !== undefined && busy.kill({ groupId });
}

/** What is asked for beyond what others ask: kills take their time, and so may a machine that has others to serve. */
const patient = {
  maxGroupLosses: 20,
  gates: { ...request.gates, interTokenP95Ms: null },
  timeouts: {
    ...{ capacityMs: 120_000, formMs: 120_000, stepMs: 300_000 },
    ...{ drainMs: 300_000, settleMs: 1_000 },
  },
};

/** Plays a rollout with its kills. */
async function play({ plan, victim }: { plan: Plan; victim: Victim }, rolloutId: string) {
  const before = await eventually(async () => {
    const now = await busy.status();
    return now?.status === "serving" && now;
  }, 120_000);
  const target = before.promoted === "guide-a" ? "guide-b" : "guide-a";
  await busy.start(rolloutId, target, patient);
  const struck = new Set<string>();
  let isRolledBack = false;
  const done = await busy.ended(rolloutId, async (now) => {
    if (plan.rollBackIn?.is(now) && !isRolledBack) {
      await operator(busy.stage, { command: "rollback", rolloutId, by: "test" });
      isRolledBack = true;
    }
    const phase = plan.phases.find((one) => one.is(now) && !struck.has(one.name));
    if (phase !== undefined && (await strike(now, victim, target))) struck.add(phase.name);
  });
  return { before, done, target, struck };
}

describe("a rollout", () => {
  test.each(cases)("is $outcome, though the $victim is killed in every phase", async (one) => {
    const { plan, victim } = one;
    const { length: readBefore } = busy.readings;
    const startedAt = Date.now();
    const { before, done, target, struck } = await play(one, `kill-${cases.indexOf(one)}`);
    expect([...struck]).toEqual(plan.phases.map(({ name }) => name));
    const serving = plan.outcome === "promoted" ? target : before.promoted;
    expect(done.past.outcome).toBe(plan.outcome);
    expect(done.promoted).toBe(serving);
    expect(done.weights).toEqual([{ revision: serving, percent: 100 }]);
    expect(done.groups.map(({ revision }) => revision)).toEqual([serving]);
    await eventually(async () => {
      expect(await busy.running()).toEqual(done.groups.map(({ groupId }) => groupId));
      return true;
    }, 60_000);
    expect(busy.failures).toEqual([]);
    const answers = busy.readings.slice(readBefore).map(({ tookMs }) => tookMs);
    const figures = [struck.size, Date.now() - startedAt, answers.length, Math.max(...answers)];
    seen.push(`${victim}, ${plan.outcome}: kills, ms, answers, ms of the slowest: ${figures}`);
  });

  test("no turn has failed, none has lost or repeated a token, and each is recorded as it was read", async () => {
    await busy.quiet();
    expect(busy.failures).toEqual([]);
    for (const reading of busy.readings) {
      expect(["stop", "length"]).toContain(reading.finishReason);
      const record = await recorded(busy.stage, reading);
      expect(record).toMatchObject({ status: "completed", answer: reading.text });
    }
    console.info(`${busy.readings.length} answers\n${seen.join("\n")}`);
  });
});
