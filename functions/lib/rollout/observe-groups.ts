import type { ClusterView, ObservedGroup } from "../../../events/cluster-port.ts";
import {
  type GroupBeat,
  groupBeatKey,
  groupBeatSchema,
  groupDrainKey,
  groupsKey,
} from "../../../events/redis-keys.ts";
import type { Deps } from "../deps.ts";

/** Groups as they are seen: what the cluster has, and what they say of themselves in Redis. */

/**
 * @param revisions where to look for groups that the cluster does not have.
 * @throws what the cluster or Redis throw: a group is never taken for gone because nobody could look.
 */
export async function observeGroups(
  deps: Pick<Deps, "cluster" | "redis">,
  model: string,
  revisions: Iterable<string>,
): Promise<Omit<ClusterView, "groups"> & { groups: ObservedGroup[] }> {
  const { groups, ...view } = await deps.cluster.observe(model);
  const known = new Map(groups.map((group) => [group.groupId, group]));
  const everywhere = new Set([
    ...revisions,
    ...Object.keys(view.capacity),
    ...groups.map(({ revision }) => revision),
  ]);
  const heard = await heardOf(deps, everywhere);
  const strangers = [...heard].filter(([groupId]) => !known.has(groupId));
  return {
    ...view,
    groups: [
      ...(await Promise.all(
        groups.map(async (group) => ({
          ...group,
          heartbeat: await heartbeatOf(deps, group.groupId),
        })),
      )),
      ...(await Promise.all(
        strangers.map(([groupId, revision]) => stranger(deps, groupId, revision)),
      )),
    ],
  };
}

/** Groups that have been heard of in the last minute, each with its revision. */
export async function heardOf(
  { redis }: Pick<Deps, "redis">,
  revisions: Iterable<string>,
): Promise<Map<string, string>> {
  const found = await Promise.all(
    [...revisions].map(async (revision) => {
      const groupIds = await redis.zrange(groupsKey(revision), "0", "-1");
      return groupIds.map((groupId) => [groupId, revision] as const);
    }),
  );
  return new Map(found.flat());
}

async function stranger(
  deps: Pick<Deps, "redis">,
  groupId: string,
  revision: string,
): Promise<ObservedGroup> {
  const [heartbeat, drain] = await Promise.all([
    heartbeatOf(deps, groupId),
    deps.redis.exists(groupDrainKey(groupId)),
  ]);
  return {
    ...{ groupId, revision, heartbeat },
    exists: false,
    isDraining: drain === 1,
    failure: undefined,
  };
}

/** The last heartbeat, of the last minute. */
async function heartbeatOf(
  deps: Pick<Deps, "redis">,
  groupId: string,
): Promise<ObservedGroup["heartbeat"]> {
  const beat = await beatOf(deps, groupId);
  if (beat === undefined) return undefined;
  const { at, epoch, ranks, slots, running, isAccepting } = beat;
  return { at, epoch, ranks, slots, running, isAccepting };
}

/** All that a group said of itself last, within the last minute. */
export async function beatOf(
  { redis }: Pick<Deps, "redis">,
  groupId: string,
): Promise<GroupBeat | undefined> {
  const text = await redis.get(groupBeatKey(groupId));
  return text === null ? undefined : groupBeatSchema.parse(JSON.parse(text));
}
