import type {
  ClusterError,
  ClusterGroup,
  ClusterPort,
  ClusterView,
  GroupOrder,
} from "../../events/cluster-port.ts";
import { groupBeatKey, groupDrainKey, groupsKey } from "../../events/redis-keys.ts";
import type { Deps } from "../../functions/lib/deps.ts";

/** How groups of a revision turn out. */
interface Nature {
  /** They never say that they take turns. */
  isMute?: boolean;
  /** What every order about it is refused with. */
  refusal?: ClusterError;
}

/**
 * A cluster whose machines are there at once, and whose groups take turns as soon as they are made: they
 * say so in Redis, by the clock of the test, whenever the test lets them.
 */
export class TestCluster implements ClusterPort {
  readonly groups = new Map<string, { revision: string; epoch: number; running: number }>();
  readonly orders: GroupOrder[] = [];
  readonly natures = new Map<string, Nature>();
  /** Of everything that is asked. */
  failure: ClusterError | undefined;
  readonly #asked = new Map<string, number>();
  readonly #redis: Deps["redis"];
  readonly #now: () => number;

  constructor(redis: Deps["redis"], now: () => number) {
    this.#redis = redis;
    this.#now = now;
  }

  async observe() {
    if (this.failure !== undefined) throw this.failure;
    const groups = [...this.groups].map(
      async ([groupId, { revision }]): Promise<ClusterGroup> => ({
        ...{ groupId, revision, exists: true, failure: undefined },
        isDraining: (await this.#redis.exists(groupDrainKey(groupId))) === 1,
      }),
    );
    const capacity = Object.fromEntries(
      [...this.#asked].map(([revision, asked]): [string, ClusterView["capacity"][string]] => [
        revision,
        { asked, there: asked, failure: undefined },
      ]),
    );
    return { groups: await Promise.all(groups), capacity };
  }

  async follow(order: GroupOrder): Promise<void> {
    const failure = this.failure ?? this.natures.get(order.revision)?.refusal;
    if (failure !== undefined) throw failure;
    this.orders.push(order);
    switch (order.type) {
      case "EnsureCapacity":
        this.#asked.set(order.revision, order.groups);
        return;
      case "CreateGroup":
        return this.start(order.groupId, order.revision);
      case "DrainGroup":
        await this.#redis.set(groupDrainKey(order.groupId), "1");
        return this.beat();
      case "DeleteGroup":
        this.groups.delete(order.groupId);
        await this.#redis.del(groupBeatKey(order.groupId));
        await this.#redis.zrem(groupsKey(order.revision), order.groupId);
    }
  }

  async start(groupId: string, revision: string): Promise<void> {
    if (this.groups.has(groupId)) return;
    this.groups.set(groupId, { revision, epoch: this.#now(), running: 0 });
    await this.beat();
  }

  /** Every group says that it lives. */
  async beat(): Promise<void> {
    for (const [groupId, { revision, epoch, running }] of this.groups) {
      if (this.natures.get(revision)?.isMute) continue;
      const isAccepting = (await this.#redis.exists(groupDrainKey(groupId))) === 0;
      const at = this.#now();
      const said = { at, revision, epoch, ranks: 2, slots: 4, running, isAccepting };
      await this.#redis.set(groupBeatKey(groupId), JSON.stringify(said));
      await this.#redis.zadd(groupsKey(revision), at, groupId);
    }
  }
}
