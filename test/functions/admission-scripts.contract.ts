import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { announceGroup } from "../../dataplane/group.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import { admissionKeys, groupBeatKey, groupKey, groupsKey } from "../../events/redis-keys.ts";
import type { Priority } from "../../events/turn-events.ts";
import {
  type AdmissionDeps,
  type AdmissionSettings,
  admit,
  confirm,
  leave,
  livingSlots,
  refuseOverload,
  release,
  withdraw,
} from "../../functions/lib/admission/admission.ts";
import { announced } from "../support/announced.ts";
import { eventually } from "../support/eventually.ts";
import { keysIn } from "../support/redis-keyspace.ts";
import { AdmissionModel, type ModelTurn } from "./admission-model.ts";

/** The scripts of admission on a real Redis, or a cluster of them, beside a model of the scripts. */
export function admissionScriptsContract(connect: () => RedisClient): void {
  let redis: RedisClient;
  beforeAll(() => {
    redis = connect();
  });
  afterAll(() => redis.disconnect());

  const settingsOf = (settings: Partial<AdmissionSettings> = {}): AdmissionSettings => ({
    ...{ tenantInFlight: 8, tenantHeld: 100, roomFactor: 2, defaultRoom: 32 },
    ...{ maxWaitMs: 120_000, tenantWeights: {} },
    ...settings,
  });
  const depsOf = (settings?: Partial<AdmissionSettings>): AdmissionDeps => ({
    redis,
    admission: settingsOf(settings),
  });

  const newRevision = () => `revision-${randomUUID()}`;
  const loseAll = (revision: string) => redis.del(...Object.values(admissionKeys(revision)));

  let count = 0;
  const turnOf = (
    revision: string,
    tenantId: string,
    priority: Priority = "interactive",
    requestedAt = ++count,
  ) => ({ turnId: `turn_${++count}`, revision, tenantId, priority, requestedAt });

  // Names that sort next to each other, and one that is no word of a place as it is.
  const tenantIds = ["a", "a!", "a-b", "é b"];

  type Step =
    | { do: "admit"; tenant: number; priority: Priority; at: number; isUnderWay: boolean }
    | { do: "admit again" | "leave" | "withdraw"; which: number; isUnderWay: boolean }
    | { do: "release" }
    | { do: "lose" };

  const priorityArbitrary = fc.constantFrom<Priority>("interactive", "batch");
  const stepArbitrary: fc.Arbitrary<Step> = fc.oneof(
    {
      weight: 10,
      arbitrary: fc.record({
        do: fc.constant("admit" as const),
        tenant: fc.nat(tenantIds.length - 1),
        priority: priorityArbitrary,
        at: fc.nat(50),
        isUnderWay: fc.nat(9).map((n) => n === 0),
      }),
    },
    {
      weight: 8,
      arbitrary: fc.record({
        do: fc.constantFrom("admit again" as const, "leave" as const, "leave", "withdraw" as const),
        which: fc.nat(),
        isUnderWay: fc.nat(9).map((n) => n === 0),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.constantFrom<Step>({ do: "release" }, { do: "lose" }),
    },
  );
  const settingsArbitrary = fc.record({
    defaultRoom: fc.integer({ min: 1, max: 12 }),
    tenantInFlight: fc.integer({ min: 1, max: 5 }),
    tenantWeights: fc.dictionary(fc.constantFrom(...tenantIds), fc.integer({ min: 1, max: 5 })),
  });

  /** The scripts and the model, side by side, and what must hold whatever the model says. */
  class Pair {
    readonly revision = newRevision();
    readonly model: AdmissionModel;
    readonly deps: AdmissionDeps;
    readonly known: ModelTurn[] = [];
    readonly releasedOnce = new Set<string>();
    readonly gone = new Set<string>();

    constructor(
      settings: Pick<AdmissionSettings, "defaultRoom" | "tenantInFlight" | "tenantWeights">,
    ) {
      this.deps = depsOf(settings);
      this.model = new AdmissionModel({ room: settings.defaultRoom, ...settings });
    }

    async step(step: Step): Promise<void> {
      if (step.do === "release")
        return this.check(await release(this.deps, this.revision), this.model.release());
      if (step.do === "lose") return this.loseAndSweep();
      if (step.do === "admit") {
        const { tenant, priority, at, isUnderWay } = step;
        const turn = turnOf(this.revision, tenantIds[tenant] ?? "", priority, at);
        this.known.push(turn);
        return this.admit(turn, isUnderWay);
      }
      const turn = this.known[step.which % Math.max(1, this.known.length)];
      if (turn === undefined) return;
      if (step.do === "admit again") {
        if (!this.gone.has(turn.turnId)) await this.admit(turn, step.isUnderWay);
      } else if (step.do === "leave") {
        await this.leave(turn.turnId);
      } else {
        const isWithdrawn = await withdraw(this.deps, this.revision, turn.turnId);
        expect(isWithdrawn).toBe(this.model.withdraw(turn.turnId));
        if (isWithdrawn) this.gone.add(turn.turnId);
      }
    }

    async admit(turn: ModelTurn, isUnderWay: boolean): Promise<void> {
      const wasInFlight = this.model.inFlight.has(turn.turnId);
      const { queue, released } = await admit(
        this.deps,
        { ...turn, revision: this.revision },
        { isUnderWay },
      );
      const expected = this.model.admit(turn, isUnderWay);
      const others = expected.filter((id) => id !== turn.turnId);
      const own = expected.filter((id) => id === turn.turnId);
      expect(queue === undefined).toBe(this.model.inFlight.has(turn.turnId));
      if (isUnderWay && !wasInFlight) this.releasedOnce.add(turn.turnId);
      this.check(released, others);
      for (const id of own) this.noteReleased(id);
      if (queue === undefined) return;
      const line = this.model.heldOf(turn.tenantId, turn.priority);
      expect(queue.position).toBeGreaterThan(
        line.findIndex(({ turnId }) => turnId === turn.turnId),
      );
      expect(queue.position).toBeLessThanOrEqual(this.model.held.size);
    }

    async leave(turnId: string): Promise<void> {
      this.gone.add(turnId);
      this.check(await leave(this.deps, this.revision, turnId), this.model.leave(turnId));
    }

    check(released: string[], expected: string[]): void {
      expect(released).toEqual(expected);
      for (const turnId of released) this.noteReleased(turnId);
    }

    noteReleased(turnId: string): void {
      expect(this.releasedOnce.has(turnId)).toBe(false);
      expect(this.gone.has(turnId)).toBe(false);
      this.releasedOnce.add(turnId);
      const { model } = this;
      const turn = model.inFlight.get(turnId);
      expect(model.inFlight.size).toBeLessThanOrEqual(model.settings.room);
      expect(model.inFlightOf(turn?.tenantId ?? "")).toBeLessThanOrEqual(
        model.settings.tenantInFlight,
      );
      // Nobody who was asked before it is left behind in its own line.
      const line = model.heldOf(turn?.tenantId ?? "", turn?.priority ?? "interactive");
      expect(line[0]?.requestedAt ?? Infinity).toBeGreaterThanOrEqual(turn?.requestedAt ?? 0);
    }

    /** As the sweep does it: every open turn in the order of asking; those that were sent are under way. */
    async loseAndSweep(): Promise<void> {
      const sent = [...this.model.inFlight.values()];
      const open = [...sent, ...this.model.held.values()].sort(
        (a, b) => a.requestedAt - b.requestedAt,
      );
      await loseAll(this.revision);
      this.model.loseAll();
      for (const turn of sent) await this.admit(turn, true);
      for (const turn of open) await this.admit(turn, false);
    }

    /** What Redis holds is what the model holds. */
    async compare(): Promise<void> {
      const keys = admissionKeys(this.revision);
      const { inFlight, held } = this.model;
      const ids = await redis.hkeys(keys.turns);
      expect(ids.sort()).toEqual([...inFlight.keys(), ...held.keys()].sort());
      expect(await redis.zcard(keys.inFlight)).toBe(inFlight.size);
      const heldCount =
        (await redis.zcard(keys.heldInteractive)) + (await redis.zcard(keys.heldBatch));
      expect(heldCount).toBe(held.size);
      expect(await redis.zcard(keys.expiry)).toBe(ids.length);
    }

    /** Ends what is in flight until nothing is; then every turn was released, or is gone. */
    async drain(): Promise<void> {
      this.check(await release(this.deps, this.revision), this.model.release());
      for (let rounds = 0; this.model.inFlight.size > 0; rounds++) {
        expect(rounds).toBeLessThan(1_000);
        const [first = ""] = this.model.inFlight.keys();
        await this.leave(first);
      }
      expect(this.model.held.size).toBe(0);
      await this.compare();
    }
  }

  describe("whatever is asked, in whatever order", () => {
    test("caps hold, order is kept, and every turn is released once", async () => {
      const property = fc.asyncProperty(
        settingsArbitrary,
        fc.array(stepArbitrary, { maxLength: 60 }),
        async (settings, steps) => {
          const pair = new Pair(settings);
          for (const step of steps) await pair.step(step);
          await pair.compare();
          await pair.drain();
          for (const { turnId } of pair.known) {
            expect(pair.releasedOnce.has(turnId) || pair.gone.has(turnId)).toBe(true);
          }
          expect(await keysIn(redis, `admission:{${pair.revision}}:held*`)).toEqual([]);
        },
      );
      await fc.assert(property, { numRuns: 100 });
    });

    test("each tenant gets its weight in every round", async () => {
      const property = fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 2, maxLength: 4 }),
        async (weights) => {
          const revision = newRevision();
          const tenantWeights = Object.fromEntries(weights.map((n, i) => [tenantIds[i] ?? "", n]));
          const deps = depsOf({ defaultRoom: 1, tenantWeights });
          const running = turnOf(revision, "somebody");
          await admit(deps, running);
          const rounds = 2;
          const tenantOf = new Map<string, string>();
          for (const [tenantId, weight] of Object.entries(tenantWeights)) {
            for (let i = 0; i < weight * rounds; i++) {
              const turn = turnOf(revision, tenantId);
              tenantOf.set(turn.turnId, tenantId);
              await admit(deps, turn);
            }
          }
          let last = running.turnId;
          for (let round = 0; round < rounds; round++) {
            const served: Record<string, number> = {};
            for (let i = weights.reduce((a, b) => a + b); i > 0; i--) {
              [last = ""] = await leave(deps, revision, last);
              const tenantId = tenantOf.get(last) ?? "";
              served[tenantId] = (served[tenantId] ?? 0) + 1;
            }
            expect(served).toEqual(tenantWeights);
          }
        },
      );
      await fc.assert(property, { numRuns: 15 });
    });

    test("of eight releases one at least is a batch turn's", async () => {
      const revision = newRevision();
      const deps = depsOf({ defaultRoom: 1 });
      let last = turnOf(revision, "a").turnId;
      await admit(deps, { ...turnOf(revision, "a"), turnId: last });
      const batch = new Set<string>();
      for (let i = 0; i < 40; i++) await admit(deps, turnOf(revision, "a"));
      for (let i = 0; i < 4; i++) {
        const turn = turnOf(revision, "a", "batch");
        batch.add(turn.turnId);
        await admit(deps, turn);
      }
      const order: boolean[] = [];
      for (let i = 0; i < 32; i++) {
        [last = ""] = await leave(deps, revision, last);
        order.push(batch.has(last));
      }
      expect(order.map((isBatch, i) => (isBatch ? i : -1)).filter((i) => i >= 0)).toEqual([
        7, 15, 23, 31,
      ]);
    });
  });

  describe("what is told about waiting", () => {
    test("positions count in the round robin, and the wait follows the pace of turns that end", async () => {
      const revision = newRevision();
      const deps = depsOf({ defaultRoom: 2 });
      const running = [turnOf(revision, "a"), turnOf(revision, "a")];
      for (const turn of running) expect((await admit(deps, turn)).queue).toBeUndefined();
      const first = turnOf(revision, "a");
      const told = [await admit(deps, first)];
      for (let i = 0; i < 4; i++) told.push(await admit(deps, turnOf(revision, "a")));
      expect(told.map(({ queue }) => queue?.position)).toEqual([1, 2, 3, 4, 5]);
      // Of another tenant's, the first goes after the first.
      expect((await admit(deps, turnOf(revision, "b"))).queue?.position).toBe(2);
      expect((await admit(deps, first)).queue?.position).toBe(1);

      const waits = told.map(({ queue }) => queue?.estimatedWaitMs ?? 0);
      expect(waits).toEqual([2_500, 5_000, 7_500, 10_000, 12_500]);
      for (const { turnId } of running) await leave(deps, revision, turnId);
      const { queue } = await admit(deps, turnOf(revision, "a"));
      expect(queue?.estimatedWaitMs).toBeLessThan(2_500);
    });

    test("a turn is refused that would wait too long, or whose tenant holds too many", async () => {
      const revision = newRevision();
      const deps = depsOf({ defaultRoom: 1, maxWaitMs: 12_000, tenantHeld: 3 });
      const refuse = (tenantId: string) => refuseOverload(deps, revision, tenantId, "interactive");
      await refuse("a");
      await admit(deps, turnOf(revision, "a"));
      for (let i = 0; i < 2; i++) await admit(deps, turnOf(revision, "a"));
      await expect(refuse("a")).rejects.toMatchObject({
        code: "overloaded",
        retryAfterMs: 3_000,
        message: expect.stringContaining("15 s"),
      });
      // To another tenant the wait is shorter.
      await refuse("b");
      await admit(deps, turnOf(revision, "a"));
      await expect(refuse("a")).rejects.toMatchObject({
        code: "overloaded",
        message: expect.stringContaining("3 of your turns"),
      });
      expect(await redis.hlen(admissionKeys(revision).turns)).toBe(4);
    });
  });

  describe("what heals", () => {
    test("a turn in flight that nobody knows any more leaves, one that is confirmed stays", async () => {
      const revision = newRevision();
      const deps = depsOf({ defaultRoom: 2 });
      const [lost, known, held] = [
        turnOf(revision, "a"),
        turnOf(revision, "b"),
        turnOf(revision, "c"),
      ];
      for (const turn of [lost, known, held]) await admit(deps, turn);
      const { expiry } = admissionKeys(revision);
      for (const { turnId } of [lost, known]) await redis.zadd(expiry, Date.now() - 1, turnId);
      expect(await confirm(deps, revision, known.turnId)).toBe("in flight");
      expect(await confirm(deps, revision, held.turnId)).toBe("held");
      expect(await release(deps, revision)).toEqual([held.turnId]);
      expect(await confirm(deps, revision, lost.turnId)).toBe("unknown");
      expect(await confirm(deps, revision, known.turnId)).toBe("in flight");
    });

    test("every key ends some day", async () => {
      const revision = newRevision();
      const deps = depsOf({ defaultRoom: 1 });
      for (let i = 0; i < 3; i++)
        await admit(deps, turnOf(revision, "a", i === 2 ? "batch" : "interactive"));
      for (const key of await keysIn(redis, `admission:{${revision}}:*`)) {
        expect(await redis.pttl(key)).toBeGreaterThan(3_600_000);
      }
    });
  });

  describe("the room of a revision", () => {
    test("has nothing of a group that drains", async () => {
      const revision = newRevision();
      const [stays, drains] = [`group_${randomUUID()}`, `group_${randomUUID()}`];
      const leaveStaying = announceGroup(redis, stays, announced(revision, 2));
      const { describe: facts } = announced(revision, 5);
      const leaveDraining = announceGroup(redis, drains, {
        describe: () => ({ ...facts(), isAccepting: false }),
        ...{ drained: () => {}, rotated: () => {} },
      });
      for (const groupId of [stays, drains]) {
        await eventually(async () => (await redis.exists(groupBeatKey(groupId))) === 1);
      }
      expect(await livingSlots(redis, revision)).toBe(2);
      await leaveStaying();
      await leaveDraining();
    });

    test("is twice the slots of its living groups, and a default while there are none", async () => {
      const revision = newRevision();
      const deps = () => ({
        ...depsOf({ defaultRoom: 1, tenantInFlight: 100 }),
        redis: connect(),
      });
      const inFlightNow = async () => {
        const fresh = deps();
        await release(fresh, revision);
        fresh.redis.disconnect();
        return redis.zcard(admissionKeys(revision).inFlight);
      };
      const setup = deps();
      for (let i = 0; i < 30; i++) await admit(setup, turnOf(revision, "a"));
      setup.redis.disconnect();
      expect(await inFlightNow()).toBe(1);

      const [one, two] = [`group_${randomUUID()}`, `group_${randomUUID()}`];
      const leaveOne = announceGroup(redis, one, announced(revision, 2));
      await eventually(async () => (await redis.exists(groupKey(one))) === 1);
      expect(await inFlightNow()).toBe(4);
      const leaveTwo = announceGroup(redis, two, announced(revision, 5));
      await eventually(async () => (await redis.exists(groupKey(two))) === 1);
      expect(await inFlightNow()).toBe(14);
      expect((await redis.zrange(groupsKey(revision), "0", "-1")).sort()).toEqual(
        [one, two].sort(),
      );
      // A group that was killed is in the index a while longer, but its hash is not there.
      await redis.zadd(groupsKey(revision), Date.now(), "group_dead");
      expect(await inFlightNow()).toBe(14);
      await leaveOne();
      await leaveTwo();
      expect(await redis.zrange(groupsKey(revision), "0", "-1")).toEqual(["group_dead"]);
    });
  });
}
