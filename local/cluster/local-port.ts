import { ClusterError, type ClusterPort } from "../../events/cluster-port.ts";
import type { RedisClient } from "../../events/redis-client.ts";
import { groupOrders } from "../../functions/lib/rollout/group-orders.ts";
import type { GroupSupervisor } from "./group-supervisor.ts";

/**
 * This machine as a cluster: a group is a process with its ranks, a child of the supervisor. That it is to
 * drain it reads in Redis, as in every cluster.
 * @param openQueue makes the revision's queue, where it is not there.
 */
export function localCluster({
  supervisor,
  redis,
  openQueue,
}: {
  supervisor: GroupSupervisor;
  redis: RedisClient;
  openQueue: (revision: string) => Promise<unknown>;
}): ClusterPort {
  const orders = groupOrders(redis);
  return {
    async observe(model) {
      const { groups, capacity } = await supervisor.view(model);
      const seen = groups.map(async (group) => ({
        ...group,
        isDraining: await orders.isDraining(group.groupId),
      }));
      return { groups: await Promise.all(seen), capacity };
    },
    async follow(order) {
      switch (order.type) {
        case "DrainGroup":
          return orders.drain(order.groupId);
        case "DeleteGroup":
          if (await orders.mayEnd(order.groupId)) await supervisor.follow(order);
          return;
        case "CreateGroup":
          // It takes its jobs there from its first moment on.
          await openQueue(order.revision).catch((cause: unknown) => {
            throw new ClusterError("unavailable", "SQS does not answer.", cause);
          });
          return supervisor.follow(order);
        case "EnsureCapacity":
          return supervisor.follow(order);
      }
    },
  };
}
