/**
 * Names and labels that objects find each other by.
 *
 * A Service named `vllm` must never be: Kubernetes would give every container the variable VLLM_PORT, which
 * vLLM reads as its own (docs.vllm.ai, "Environment Variables"). Ours begin with `axon-`, and pods take no such
 * variables at all (`enableServiceLinks: false`).
 */
export const namespace = "axon";

/** Of a revision's ConfigMap and disruption budget. */
export const revisionName = (revision: string): string => `axon-${revision}`;

/** Of a group's LeaderWorkerSet, headless Service and network policy. */
export const groupName = (groupId: string): string => `axon-${groupId}`;

/** The node groups of a revision: each has the machines of one group. */
export const nodeGroupName = (revision: string, index: number): string =>
  `${revisionName(revision)}-${index}`;

/** Labels of a group's LeaderWorkerSet, by which a rollout finds it. */
export const groupLabel = "axon/group";
export const modelLabel = "axon/model";
/** EKS labels nodes with it; a group's set says by it where the group is. */
export const nodeGroupLabel = "eks.amazonaws.com/nodegroup";

export const names = {
  workerAccount: "axon-worker",
  relayAccount: "axon-relay",
  relay: "axon-relay",
  /** Secret with REDIS_URL; made by the stacks. */
  redisSecret: "axon-redis",
  /** Secret with AXON_GROUP_SECRET, for ranks of the embedded engine on other nodes; made by the stacks. */
  groupSecret: "axon-group",
  /** The group of Kubernetes' users that the rollout's functions belong to, by their EKS access entry. */
  rolloutUsers: "axon-rollout",
} as const;

/** Labels that the LeaderWorkerSet controller gives to pods (leaderworkerset_types.go). */
export const setLabel = "leaderworkerset.sigs.k8s.io/name";
/** Annotation of a follower's pod: its leader's name, which is the group's. */
export const leaderNameAnnotation = "leaderworkerset.sigs.k8s.io/leader-name";

export type Component = "leader" | "follower" | "relay";

/** The common labels of kubernetes.io, "Recommended Labels". */
export function labelsOf(component: Component, revision?: string): Record<string, string> {
  return {
    "app.kubernetes.io/name": "axon",
    "app.kubernetes.io/component": component,
    "app.kubernetes.io/part-of": "axon",
    ...(revision !== undefined && { "app.kubernetes.io/instance": revision }),
  };
}

export const ports = {
  /** vLLM's API, on the loopback address of its pod alone. */
  engine: 8_000,
  /** /live, /ready and /metrics. */
  probes: 9_090,
  /** The relay's own door. */
  door: 8_080,
  /** Where vLLM's nodes find each other; its default. */
  master: 29_501,
  /** Where ranks of the embedded engine join. */
  ranks: 7_010,
  /** Ray's head. */
  ray: 6_379,
} as const;

/**
 * Annotations of pods that have metrics, by the convention of Prometheus's own examples and of its Helm chart.
 * PodMonitor would be a definition of the operator's, which need not be in the cluster.
 */
export const scrapeAnnotations: Record<string, string> = {
  "prometheus.io/scrape": "true",
  "prometheus.io/port": String(ports.probes),
  "prometheus.io/path": "/metrics",
};

/** Label of a namespace whose pods may read the metrics. */
export const scraperLabel = { "axon/scraper": "true" };

export const folders = {
  model: "/model",
  ncclLogs: "/run/axon/nccl",
} as const;
