import type { EKSClient } from "@aws-sdk/client-eks";
import * as z from "zod";
import type { Deployment, Revision } from "../../../cluster/deployment.ts";
import {
  type GroupContext,
  groupNetwork,
  groupSet,
  revisionObjects,
} from "../../../cluster/objects/group-set.ts";
import {
  groupLabel,
  groupName,
  modelLabel,
  namespace,
  nodeGroupLabel,
  revisionName,
} from "../../../cluster/objects/names.ts";
import type { ClusterSettings, Machine } from "../../../cluster/objects/settings.ts";
import {
  ClusterError,
  type ClusterGroup,
  type ClusterPort,
  type ClusterView,
  type GroupOrder,
} from "../../../events/cluster-port.ts";
import type { RedisClient } from "../../../events/redis-client.ts";
import { groupOrders } from "../rollout/group-orders.ts";
import type { Kind, KubernetesApi } from "./api.ts";
import { KubernetesError, kubernetesFailure } from "./errors.ts";
import { type NodeGroup, nodeGroupsOf, scaleNodeGroup } from "./nodes.ts";
import { podFailures } from "./pods.ts";

export interface EksClusterOptions {
  eks: EKSClient;
  kubernetes: KubernetesApi;
  redis: RedisClient;
  /** EKS's name of the cluster. */
  cluster: string;
  deployment: Deployment;
  settings: ClusterSettings;
  machineOf: (instanceType: string) => Machine;
}

const kinds = {
  sets: { apiVersion: "leaderworkerset.x-k8s.io/v1", resource: "leaderworkersets", namespace },
  configMaps: { apiVersion: "v1", resource: "configmaps", namespace },
  budgets: { apiVersion: "policy/v1", resource: "poddisruptionbudgets", namespace },
  policies: { apiVersion: "networking.k8s.io/v1", resource: "networkpolicies", namespace },
} satisfies Record<string, Kind>;

/**
 * Notes on the revision's ConfigMap. They are changed only as they were read, so that of two callers at
 * the same time one is refused.
 */
const notes = {
  /** The version of the log that machines were last asked for by. */
  basis: "axon/capacity-basis",
  /** The last group that was given machines. */
  group: "axon/newest-group",
};

const setSchema = z.object({
  metadata: z.object({ labels: z.record(z.string(), z.string()) }),
});
interface GroupSet {
  groupId: string;
  revision: string;
  nodeGroup: string;
}

const configMapSchema = z.object({
  metadata: z.object({
    resourceVersion: z.string(),
    annotations: z.record(z.string(), z.string()).default({}),
  }),
});

/**
 * A cluster of EKS as the rollout manager's port. A group is a LeaderWorkerSet, on the nodes of one node
 * group; that it is to drain it reads in Redis.
 *
 * Each order is a few calls of two APIs. One that breaks off in between is given again, and goes on: what
 * is there already is left as it is.
 */
export function eksCluster(options: EksClusterOptions): ClusterPort {
  const orders = groupOrders(options.redis);
  return {
    async observe(model) {
      const revisions = revisionsOf(options.deployment, model);
      const known = revisions.map(({ revision, groups }) => ({ revision, most: groups.max }));
      const [sets, nodeGroups, failures] = await Promise.all([
        listSets(options.kubernetes, model),
        nodeGroupsOf(options, known),
        podFailures(options.kubernetes),
      ]);
      const groups = sets.map(
        async ({ groupId, revision }): Promise<ClusterGroup> => ({
          ...{ groupId, revision, exists: true },
          isDraining: await orders.isDraining(groupId),
          failure: failures.get(groupName(groupId)),
        }),
      );
      const capacity = revisions.map(({ revision, nodes }) => [
        revision,
        capacityOf(nodeGroups.get(revision) ?? [], nodes),
      ]);
      return { groups: await Promise.all(groups), capacity: Object.fromEntries(capacity) };
    },
    async follow(order) {
      switch (order.type) {
        case "EnsureCapacity":
          return ensureCapacity(options, order);
        case "CreateGroup":
          return createGroup(options, order);
        case "DrainGroup":
          return orders.drain(order.groupId);
        case "DeleteGroup":
          if (await orders.mayEnd(order.groupId)) {
            await deleteGroup(options.kubernetes, order.groupId);
          }
          return;
      }
    },
  };
}

function revisionsOf({ models }: Deployment, model: string): Revision[] {
  return models.find((one) => one.model === model)?.revisions ?? [];
}

/** @throws ClusterError unknown */
function contextOf(
  { deployment, settings, machineOf }: EksClusterOptions,
  { model, revision: name }: { model: string; revision: string },
): GroupContext {
  const revision = revisionsOf(deployment, model).find((one) => one.revision === name);
  if (revision === undefined) {
    throw new ClusterError("unknown", `${model} has no revision ${name} in axon.config.ts.`);
  }
  return { deployment, model, revision, settings, machine: machineOf(revision.instanceType) };
}

function capacityOf(
  nodeGroups: readonly NodeGroup[],
  nodes: number,
): ClusterView["capacity"][string] {
  const isAsked = ({ asked }: NodeGroup) => asked >= nodes;
  return {
    asked: nodeGroups.filter(isAsked).length,
    there: nodeGroups.filter((one) => isAsked(one) && one.ready >= nodes).length,
    failure: nodeGroups
      .filter(isAsked)
      .map(({ name, failure }) => failure && `${name}: ${failure}`)
      .find((failure) => failure !== undefined),
  };
}

async function listSets(kubernetes: KubernetesApi, model: string): Promise<GroupSet[]> {
  try {
    const items = await kubernetes.list(kinds.sets, `${modelLabel}=${model}`);
    return items.map((item) => {
      const { labels } = setSchema.parse(item).metadata;
      return {
        groupId: labels[groupLabel] ?? "",
        revision: labels["app.kubernetes.io/instance"] ?? "",
        nodeGroup: labels[nodeGroupLabel] ?? "",
      };
    });
  } catch (error) {
    throw kubernetesFailure(error, "listing groups");
  }
}

/**
 * Machines for so many groups: those of the groups that there are, whatever was asked for, and then the
 * first ones that are free.
 */
async function ensureCapacity(
  options: EksClusterOptions,
  order: Extract<GroupOrder, { type: "EnsureCapacity" }>,
): Promise<void> {
  const context = contextOf(options, order);
  const { revision, nodes, groups } = context.revision;
  if (!(await isNewest(options.kubernetes, context, order.basis))) return;
  const [sets, found] = await Promise.all([
    listSets(options.kubernetes, order.model),
    nodeGroupsOf(options, [{ revision, most: groups.max }]),
  ]);
  const nodeGroups = found.get(revision) ?? [];
  const used = new Set(sets.map(({ nodeGroup }) => nodeGroup));
  const inOrder = nodeGroups.toSorted(
    (one, other) => Number(used.has(other.name)) - Number(used.has(one.name)),
  );
  const count = Math.max(order.groups, inOrder.filter(({ name }) => used.has(name)).length);
  for (const [i, { name, asked }] of inOrder.entries()) {
    const size = i < count ? nodes : 0;
    if (asked !== size) await scaleNodeGroup(options.eks, options.cluster, name, size);
  }
  if (count > inOrder.length) {
    throw new ClusterError(
      "quota",
      `${revision} has ${inOrder.length} node groups, not ${count}: deploy a larger groups.max.`,
    );
  }
}

/**
 * Notes the order on one of the revision's objects.
 * @returns whether no later order was followed before.
 */
async function isNewest(
  kubernetes: KubernetesApi,
  context: GroupContext,
  basis: number,
): Promise<boolean> {
  try {
    const { annotations, note } = await prepare(kubernetes, context);
    const noted = Number(annotations[notes.basis] ?? 0);
    if (basis > noted) await note({ [notes.basis]: String(basis) });
    return basis >= noted;
  } catch (error) {
    throw kubernetesFailure(error, `preparing ${context.revision.revision}`);
  }
}

/**
 * Brings the revision's own objects about.
 * @returns its notes, and how to change them unless somebody else does so first.
 */
async function prepare(kubernetes: KubernetesApi, context: GroupContext) {
  const [configMap, budget] = revisionObjects(context);
  await kubernetes.apply(kinds.configMaps, configMap);
  await kubernetes.apply(kinds.budgets, budget);
  const name = revisionName(context.revision.revision);
  const { metadata } = configMapSchema.parse(await kubernetes.get(kinds.configMaps, name));
  const { resourceVersion } = metadata;
  return {
    annotations: metadata.annotations,
    note: (annotations: Record<string, string>) =>
      kubernetes.merge(kinds.configMaps, name, { metadata: { resourceVersion, annotations } }),
  };
}

async function createGroup(
  options: EksClusterOptions,
  { model, revision, groupId }: Extract<GroupOrder, { type: "CreateGroup" }>,
): Promise<void> {
  const { kubernetes } = options;
  const context = contextOf(options, { model, revision });
  try {
    const { note } = await prepare(kubernetes, context);
    const sets = await listSets(kubernetes, model);
    if (sets.some((set) => set.groupId === groupId)) return;
    const nodeGroup = await freeNodeGroup(options, context, sets);
    if (nodeGroup === undefined) {
      throw new ClusterError("unavailable", `${groupId} has no machines yet.`);
    }
    for (const policy of groupNetwork(context, groupId)) {
      await kubernetes.apply(kinds.policies, policy);
    }
    await note({ [notes.group]: groupId });
    await kubernetes.create(kinds.sets, groupSet(context, groupId, nodeGroup));
  } catch (error) {
    const isThere = error instanceof KubernetesError && error.reason === "AlreadyExists";
    if (!isThere) throw kubernetesFailure(error, `creating ${groupId}`);
  }
}

/** A node group that was asked for and that no group has; one whose nodes are there comes first. */
async function freeNodeGroup(
  options: EksClusterOptions,
  { revision: { revision, nodes, groups } }: GroupContext,
  sets: readonly GroupSet[],
): Promise<string | undefined> {
  const found = await nodeGroupsOf(options, [{ revision, most: groups.max }]);
  const used = new Set(sets.map(({ nodeGroup }) => nodeGroup));
  const free = (found.get(revision) ?? []).filter(
    ({ name, asked }) => asked >= nodes && !used.has(name),
  );
  return free.toSorted((one, other) => other.ready - one.ready)[0]?.name;
}

async function deleteGroup(kubernetes: KubernetesApi, groupId: string): Promise<void> {
  try {
    await kubernetes.remove(kinds.sets, groupName(groupId));
    await kubernetes.remove(kinds.policies, groupName(groupId));
  } catch (error) {
    throw kubernetesFailure(error, `deleting ${groupId}`);
  }
}
