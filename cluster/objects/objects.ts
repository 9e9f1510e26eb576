import type {
  V1ClusterRole,
  V1ClusterRoleBinding,
  V1ConfigMap,
  V1DaemonSet,
  V1Deployment,
  V1Namespace,
  V1PodDisruptionBudget,
  V1Role,
  V1RoleBinding,
  V1Service,
  V1ServiceAccount,
} from "@kubernetes/client-node";
import type { Deployment, Revision } from "../deployment.ts";
import { contentVariables, tracingVariables } from "../tracing.ts";
import {
  axonNamespace,
  nodesBinding,
  nodesRole,
  rolloutBinding,
  rolloutRole,
  serviceAccounts,
} from "./access.ts";
import { efaDevicePlugin, nvidiaDevicePlugin } from "./device-plugins.ts";
import type { LeaderWorkerSet } from "./leader-worker-set.ts";
import { namespace, revisionName } from "./names.ts";
import { basePolicies, type NetworkPolicy } from "./network-policies.ts";
import { relayObjects } from "./relay.ts";
import { type ClusterSettings, type Machine, ObjectError } from "./settings.ts";

/**
 * Everything that Axon has in Kubernetes, as plain objects: to be applied in this order, by whoever
 * applies. They are functions of the deployment and of its settings, and of nothing else.
 */

/** As the API takes it, with all that names it. */
export type KubernetesObject =
  | LeaderWorkerSet
  | NetworkPolicy
  | V1ClusterRole
  | V1ClusterRoleBinding
  | V1ConfigMap
  | V1DaemonSet
  | V1Deployment
  | V1Namespace
  | V1PodDisruptionBudget
  | V1Role
  | V1RoleBinding
  | V1Service
  | V1ServiceAccount;

/** Finds what a machine has, by EC2's name of it. */
export type MachineOf = (instanceType: string) => Machine;

/** What the deployment applies once, before any group; group-set.ts has the rest. */
export function baseObjects(
  deployment: Deployment,
  settings: ClusterSettings,
  { machineOf }: { machineOf: MachineOf },
): KubernetesObject[] {
  const types = [
    ...new Set(deployment.models.flatMap((model) => model.revisions.map((r) => r.instanceType))),
  ];
  const withGpus = types.filter((type) => machineOf(type).gpus !== undefined);
  const withEfa = withGpus.filter((type) => machineOf(type).efaCards > 0);
  return [
    axonNamespace,
    ...serviceAccounts(settings),
    rolloutRole,
    rolloutBinding,
    nodesRole,
    nodesBinding,
    ...basePolicies(deployment, settings),
    ...relayObjects(deployment, settings),
    ...(withGpus.length > 0 ? [nvidiaDevicePlugin(withGpus)] : []),
    ...(withEfa.length > 0 ? [efaDevicePlugin(withEfa)] : []),
  ];
}

/** @throws ObjectError where the settings have no queues for the revision */
export function revisionConfig(
  deployment: Deployment,
  { revision }: Revision,
  { queues }: ClusterSettings,
): V1ConfigMap {
  const urls = queues[revision];
  if (urls === undefined) throw new ObjectError(`There are no queues for ${revision}.`);
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: revisionName(revision), namespace },
    data: {
      AWS_REGION: deployment.region,
      AXON_REVISION: revision,
      AXON_JOBS_QUEUE_URL: urls.jobsQueueUrl,
      AXON_JOBS_DEAD_QUEUE_URL: urls.deadQueueUrl,
      AXON_REPORTS_QUEUE_URL: urls.reportsQueueUrl,
      ...tracingVariables(deployment),
      ...contentVariables(deployment),
    },
  };
}

/**
 * Nodes are drained one group at a time: while a group forms anew its pods are unavailable, and no pod
 * of another may be evicted.
 */
export function groupBudget({ revision }: Revision): V1PodDisruptionBudget {
  return {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name: revisionName(revision), namespace },
    spec: {
      maxUnavailable: 1,
      selector: {
        matchLabels: { "app.kubernetes.io/name": "axon", "app.kubernetes.io/instance": revision },
      },
    },
  };
}
