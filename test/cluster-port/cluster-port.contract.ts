import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ClusterError, type ClusterPort, type GroupOrder } from "../../events/cluster-port.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import { type GroupBeat, groupBeatKey, groupDrainKey } from "../../events/redis-keys.ts";
import { eventually } from "../support/eventually.ts";

/** A cluster that starts empty. Each revision has room for three groups. */
export interface ClusterUnderTest {
  port: ClusterPort;
  /** Another adapter to the same cluster, as after a restart of whoever had the first. */
  restarted(): Promise<ClusterPort>;
  redis: RedisClient;
  /** Whether the group has something that runs, or is about to. */
  runs(groupId: string): boolean;
  /** Its leader dies. */
  kill(groupId: string): Promise<void>;
  /** Nothing of the cluster answers any more. */
  breakDown(): Promise<void>;
  close(): Promise<void>;
}

const model = "llama";
const [r1, r2] = ["r1", "r2"];
const other = { model: "other", revision: "o1" };

/** What every adapter of `ClusterPort` does, and does not. */
export function clusterPortContract(start: () => Promise<ClusterUnderTest>): void {
  let cluster: ClusterUnderTest;
  beforeEach(async () => {
    cluster = await start();
  });
  afterEach(() => cluster.close());

  let version = 0;
  const ensure = (groups: number, { revision = r1, basis = ++version } = {}): GroupOrder => ({
    ...{ type: "EnsureCapacity", model, revision, groups, basis },
  });
  const create = (groupId: string, revision = r1): GroupOrder => ({
    ...{ type: "CreateGroup", model, revision, groupId },
  });
  const drain = (groupId: string): GroupOrder => ({
    ...{ type: "DrainGroup", model, revision: r1, groupId },
  });
  const remove = (groupId: string): GroupOrder => ({
    ...{ type: "DeleteGroup", model, revision: r1, groupId },
  });
  const follow = async (...orders: GroupOrder[]) => {
    for (const order of orders) await cluster.port.follow(order);
  };
  /** The only way in which a group is ended. */
  const end = (groupId: string) => follow(drain(groupId), remove(groupId));
  const beats = (groupId: string, more: Partial<GroupBeat>) => {
    const beat: GroupBeat = {
      ...{ at: Date.now(), revision: r1, epoch: 1, ranks: 1, slots: 4 },
      ...{ running: 0, isAccepting: true },
      ...more,
    };
    return cluster.redis.set(groupBeatKey(groupId), JSON.stringify(beat));
  };
  const seen = async (name = model) => cluster.port.observe(name);
  const ids = async (name = model) =>
    (await seen(name)).groups.map(({ groupId }) => groupId).sort();
  const capacity = async (revision = r1) => {
    const { asked = 0, there = 0, failure } = (await seen()).capacity[revision] ?? {};
    return { asked, there, failure };
  };
  const thereAre = (groups: number) => eventually(async () => (await capacity()).there === groups);
  const gone = (groupId: string) => eventually(async () => !(await ids()).includes(groupId));

  describe("machines", () => {
    test("there are none before they are asked for", async () => {
      expect((await seen()).groups).toEqual([]);
      expect(await capacity()).toEqual({ asked: 0, there: 0, failure: undefined });
    });

    test("come as they are asked for, and go again", async () => {
      await follow(ensure(2));
      expect((await capacity()).asked).toBe(2);
      await thereAre(2);
      await follow(ensure(1));
      await thereAre(1);
      expect((await capacity()).asked).toBe(1);
    });

    test("of one revision are not those of another", async () => {
      await follow(ensure(2), ensure(1, { revision: r2 }));
      await thereAre(2);
      expect((await capacity(r2)).asked).toBe(1);
    });

    test("asked for twice come once; by an older version of the log they are not changed", async () => {
      const basis = ++version;
      await follow(ensure(2, { basis }), ensure(2, { basis }), ensure(0, { basis: basis - 1 }));
      expect((await capacity()).asked).toBe(2);
      await thereAre(2);
    });

    test("that groups have are never taken away", async () => {
      await follow(ensure(2));
      await thereAre(2);
      await follow(create("r1-0"), create("r1-1"));
      await end("r1-0");
      await gone("r1-0");
      await follow(ensure(0));
      await eventually(async () => (await capacity()).there <= 1);
      expect((await capacity()).there).toBe(1);
      await eventually(() => cluster.runs("r1-1"));
    });
  });

  describe("a group", () => {
    beforeEach(async () => {
      await follow(ensure(2));
      await thereAre(2);
    });

    test("that is created is there, and runs; created twice it is one", async () => {
      await follow(create("r1-0"), create("r1-0"));
      const { groups } = await seen();
      expect(groups).toEqual([
        { groupId: "r1-0", revision: r1, exists: true, isDraining: false, failure: undefined },
      ]);
      await eventually(() => cluster.runs("r1-0"));
    });

    test("of another revision stands beside it, and one of another model is not shown", async () => {
      await follow(ensure(1, { revision: r2 }));
      await eventually(async () => (await capacity(r2)).there === 1);
      await follow(create("r1-0"), create("r2-0", r2));
      expect(await ids()).toEqual(["r1-0", "r2-0"]);
      expect(await ids(other.model)).toEqual([]);
    });

    test("that dies is there still, and runs again under its name", async () => {
      await follow(create("r1-0"));
      await eventually(() => cluster.runs("r1-0"));
      await cluster.kill("r1-0");
      expect(await ids()).toEqual(["r1-0"]);
      await eventually(() => cluster.runs("r1-0"));
    });

    test("is told to drain where it finds it, runs on, and stays so", async () => {
      await follow(create("r1-0"), create("r1-1"), drain("r1-0"), drain("r1-0"));
      const isDraining = async () =>
        Object.fromEntries((await seen()).groups.map((group) => [group.groupId, group.isDraining]));
      expect(await isDraining()).toEqual({ "r1-0": true, "r1-1": false });
      expect(await cluster.redis.exists(groupDrainKey("r1-0"))).toBe(1);
      await eventually(() => cluster.runs("r1-0"));
      await follow(create("r1-0"));
      expect(await isDraining()).toEqual({ "r1-0": true, "r1-1": false });
    });

    test("that is deleted is seen until nothing of it is left, and the others stay", async () => {
      await follow(create("r1-0"), create("r1-1"));
      await eventually(() => cluster.runs("r1-0") && cluster.runs("r1-1"));
      await end("r1-0");
      await follow(remove("r1-0"));
      await gone("r1-0");
      expect(cluster.runs("r1-0")).toBe(false);
      expect(await ids()).toEqual(["r1-1"]);
      expect(cluster.runs("r1-1")).toBe(true);
      // Nobody knows it: that is as it should be.
      await follow(remove("r1-0"), remove("never"), drain("never"));
    });

    test("is not deleted that was not told to drain, that runs turns, or that might still take one", async () => {
      await follow(create("r1-0"));
      await eventually(() => cluster.runs("r1-0"));
      await follow(remove("r1-0"));
      for (const [running, isAccepting] of [
        [0, true],
        [1, false],
      ] as const) {
        await beats("r1-0", { running, isAccepting });
        await end("r1-0");
      }
      expect(await ids()).toEqual(["r1-0"]);
      expect(cluster.runs("r1-0")).toBe(true);
      await beats("r1-0", { running: 0, isAccepting: false });
      await end("r1-0");
      await gone("r1-0");
    });

    test("that is silent is deleted, whatever it said last", async () => {
      await follow(create("r1-0"));
      await beats("r1-0", { running: 3, at: Date.now() - 11_000 });
      await end("r1-0");
      await gone("r1-0");
    });

    test("is still there for an adapter that knows nothing of it", async () => {
      await follow(create("r1-0"), drain("r1-0"));
      const port = await cluster.restarted();
      expect((await port.observe(model)).groups).toEqual([
        { groupId: "r1-0", revision: r1, exists: true, isDraining: true, failure: undefined },
      ]);
      expect((await port.observe(model)).capacity[r1]?.asked).toBe(2);
      await port.follow(create("r1-0"));
      await port.follow(remove("r1-0"));
      await eventually(async () => (await port.observe(model)).groups.length === 0);
    });

    test("of a revision that nobody knows is refused, or shown never to be ready", async () => {
      const refusal = await cluster.port.follow(create("r9-0", "r9")).catch((error) => error);
      if (refusal instanceof ClusterError) {
        expect(refusal).toMatchObject({ code: "unknown", retryable: false });
        return;
      }
      await eventually(async () => (await seen()).groups[0]?.failure !== undefined);
    });
  });

  test("a revision cannot have more groups than there is room for, which is said", async () => {
    const refusal = await cluster.port.follow(ensure(50)).catch((error: unknown) => error);
    if (refusal instanceof ClusterError) expect(refusal.code).toBe("quota");
    else expect((await capacity()).failure).toMatch(/room/);
  });

  test("what cannot be seen is not shown as nothing", async () => {
    await follow(ensure(1));
    await cluster.breakDown();
    const failures = await Promise.all(
      [cluster.port.observe(model), cluster.port.follow(create("r1-0"))].map((call) =>
        call.catch((error: unknown) => error),
      ),
    );
    for (const failure of failures) {
      expect(failure).toBeInstanceOf(ClusterError);
      expect(failure).toMatchObject({ retryable: true });
    }
  });
}
