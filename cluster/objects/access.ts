import type {
  V1ClusterRole,
  V1ClusterRoleBinding,
  V1Namespace,
  V1Role,
  V1RoleBinding,
  V1ServiceAccount,
} from "@kubernetes/client-node";
import { names, namespace } from "./names.ts";
import type { ClusterSettings } from "./settings.ts";

/** Who may do what. No process of the data plane speaks to Kubernetes: their accounts have no token. */

/**
 * IPC_LOCK, which RDMA needs, is beyond what the "baseline" standard lets pods have: what is more than
 * that is only shown (kubernetes.io, "Pod Security Standards").
 */
export const axonNamespace: V1Namespace = {
  apiVersion: "v1",
  kind: "Namespace",
  metadata: {
    name: namespace,
    labels: {
      "pod-security.kubernetes.io/enforce": "privileged",
      "pod-security.kubernetes.io/warn": "baseline",
    },
  },
};

/** Each carries one role of AWS: by EKS Pod Identity, or by the annotation of IRSA. */
export function serviceAccounts({ roleArns }: ClusterSettings): V1ServiceAccount[] {
  const account = (name: string, roleArn: string | undefined): V1ServiceAccount => ({
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: {
      name,
      namespace,
      ...(roleArn !== undefined && { annotations: { "eks.amazonaws.com/role-arn": roleArn } }),
    },
    automountServiceAccountToken: false,
  });
  return [
    account(names.workerAccount, roleArns?.worker),
    account(names.relayAccount, roleArns?.relay),
  ];
}

const all = ["get", "list", "create", "update", "patch", "delete"];

/** What the functions of the rollout need to make, watch and remove a revision's objects. */
export const rolloutRole: V1Role = {
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind: "Role",
  metadata: { name: names.rolloutUsers, namespace },
  rules: [
    { apiGroups: ["leaderworkerset.x-k8s.io"], resources: ["leaderworkersets"], verbs: all },
    { apiGroups: [""], resources: ["configmaps"], verbs: all },
    { apiGroups: ["networking.k8s.io"], resources: ["networkpolicies"], verbs: all },
    { apiGroups: ["policy"], resources: ["poddisruptionbudgets"], verbs: all },
    { apiGroups: [""], resources: ["pods", "events"], verbs: ["get", "list"] },
  ],
};

export const rolloutBinding: V1RoleBinding = {
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind: "RoleBinding",
  metadata: { name: names.rolloutUsers, namespace },
  roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: names.rolloutUsers },
  subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: names.rolloutUsers }],
};

/** Nodes belong to no namespace: which of them are ready tells how many groups there are machines for. */
export const nodesRole: V1ClusterRole = {
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind: "ClusterRole",
  metadata: { name: names.rolloutUsers },
  rules: [{ apiGroups: [""], resources: ["nodes"], verbs: ["get", "list"] }],
};

export const nodesBinding: V1ClusterRoleBinding = {
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind: "ClusterRoleBinding",
  metadata: { name: names.rolloutUsers },
  roleRef: {
    apiGroup: "rbac.authorization.k8s.io",
    kind: "ClusterRole",
    name: names.rolloutUsers,
  },
  subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: names.rolloutUsers }],
};
