import type {
  V1ConfigMap,
  V1PodDisruptionBudget,
  V1PodTemplateSpec,
} from "@kubernetes/client-node";
import type { Deployment, Revision } from "../deployment.ts";
import { type LeaderWorkerSet, leaderWorkerSet } from "./leader-worker-set.ts";
import { groupLabel, groupName, modelLabel, nodeGroupLabel } from "./names.ts";
import { groupPolicy, type NetworkPolicy } from "./network-policies.ts";
import { groupBudget, revisionConfig } from "./objects.ts";
import type { ClusterSettings, Machine } from "./settings.ts";

/**
 * The objects of a group that a rollout makes: a LeaderWorkerSet of its own. One set with all groups of a
 * revision would take its last group away when it shrinks, whatever that one runs; the rollout names the
 * one that goes.
 */

export interface GroupContext {
  deployment: Deployment;
  model: string;
  revision: Revision;
  settings: ClusterSettings;
  machine: Machine;
}

/** What all groups of a revision share. They are to be there before the first group. */
export function revisionObjects({
  deployment,
  revision,
  settings,
}: GroupContext): [V1ConfigMap, V1PodDisruptionBudget] {
  return [revisionConfig(deployment, revision, settings), groupBudget(revision)];
}

/**
 * One group on the machines of one node group: they are its own, so that machines can be given back without
 * those of another group among them.
 * @throws ObjectError
 */
export function groupSet(
  context: GroupContext,
  groupId: string,
  nodeGroup: string,
): LeaderWorkerSet {
  const set = leaderWorkerSet(context);
  const { leaderTemplate, workerTemplate } = set.spec.leaderWorkerTemplate;
  const template = (one: V1PodTemplateSpec) => pinned(named(one, groupId), nodeGroup);
  return {
    ...set,
    metadata: {
      ...set.metadata,
      name: groupName(groupId),
      labels: {
        ...set.metadata.labels,
        [groupLabel]: groupId,
        [modelLabel]: context.model,
        [nodeGroupLabel]: nodeGroup,
      },
    },
    spec: {
      ...set.spec,
      leaderWorkerTemplate: {
        ...set.spec.leaderWorkerTemplate,
        ...(leaderTemplate !== undefined && { leaderTemplate: template(leaderTemplate) }),
        workerTemplate: template(workerTemplate),
      },
    },
  };
}

/** Lets the members of a group talk to each other; none where it has one node. */
export function groupNetwork({ revision }: GroupContext, groupId: string): NetworkPolicy[] {
  return revision.nodes === 1 ? [] : [groupPolicy(groupName(groupId))];
}

/** Pods call a group what the rollout calls it, and not by the name of its leader's pod. */
function named(template: V1PodTemplateSpec, groupId: string): V1PodTemplateSpec {
  const { spec } = template;
  if (spec === undefined) return template;
  const containers = spec.containers.map((container) => ({
    ...container,
    ...(container.env !== undefined && {
      env: container.env.map((variable) =>
        variable.name === "AXON_GROUP_ID" ? { name: variable.name, value: groupId } : variable,
      ),
    }),
  }));
  return { ...template, spec: { ...spec, containers } };
}

function pinned(template: V1PodTemplateSpec, nodeGroup: string): V1PodTemplateSpec {
  const { spec } = template;
  if (spec === undefined) return template;
  const nodeSelector = { ...spec.nodeSelector, [nodeGroupLabel]: nodeGroup };
  return { ...template, spec: { ...spec, nodeSelector } };
}
