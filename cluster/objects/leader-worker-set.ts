import type { V1ObjectMeta, V1PodTemplateSpec } from "@kubernetes/client-node";
import { embeddedFollowerPod, embeddedLeaderPod } from "./embedded-pods.ts";
import { labelsOf, namespace, revisionName } from "./names.ts";
import type { PodContext } from "./settings.ts";
import { vllmFollowerPod, vllmLeaderPod } from "./vllm-pods.ts";

/**
 * The part of leaderworkerset.x-k8s.io/v1 that is used here (kubernetes-sigs/lws,
 * api/leaderworkerset/v1/leaderworkerset_types.go); the client's packages have no type for it.
 */
export interface LeaderWorkerSet {
  apiVersion: "leaderworkerset.x-k8s.io/v1";
  kind: "LeaderWorkerSet";
  metadata: V1ObjectMeta;
  spec: {
    /** Groups. */
    replicas: number;
    leaderWorkerTemplate: {
      /** The leader is like the others where it is missing. */
      leaderTemplate?: V1PodTemplateSpec;
      workerTemplate: V1PodTemplateSpec;
      /** Pods of a group, the leader's included. */
      size: number;
      restartPolicy: "RecreateGroupOnPodRestart" | "RecreateGroupAfterStart" | "None";
    };
    rolloutStrategy: {
      type: "RollingUpdate";
      rollingUpdateConfiguration: { maxUnavailable: number; maxSurge: number };
    };
    startupPolicy: "LeaderCreated" | "LeaderReady";
    networkConfig: { subdomainPolicy: "Shared" | "UniquePerReplica" };
  };
}

/**
 * One group of a revision; group-set.ts gives it its own name and its nodes. The controller makes the headless Service of the set's name itself, with addresses
 * that are published before pods are ready: members find each other while they form.
 *
 * - RecreateGroupOnPodRestart: any container that restarts, in any pod, takes its whole group along. A rank
 *   alone has nothing to come back to.
 * - LeaderCreated: followers start with their leader, which waits for them.
 * - No surge: a set that is changed by hand forms its group anew on the nodes that are there. What a
 *   rollout changes is another set, beside this one.
 */
export function leaderWorkerSet(context: PodContext): LeaderWorkerSet {
  const { revision } = context;
  return {
    apiVersion: "leaderworkerset.x-k8s.io/v1",
    kind: "LeaderWorkerSet",
    metadata: {
      name: revisionName(revision.revision),
      namespace,
      labels: labelsOf("leader", revision.revision),
    },
    spec: {
      replicas: 1,
      leaderWorkerTemplate: {
        ...podTemplates(context),
        size: revision.nodes,
        restartPolicy: "RecreateGroupOnPodRestart",
      },
      rolloutStrategy: {
        type: "RollingUpdate",
        rollingUpdateConfiguration: { maxUnavailable: 1, maxSurge: 0 },
      },
      startupPolicy: "LeaderCreated",
      networkConfig: { subdomainPolicy: "Shared" },
    },
  };
}

/** A group of one node is its leader alone, and has no template beside it. */
function podTemplates(context: PodContext): {
  leaderTemplate?: V1PodTemplateSpec;
  workerTemplate: V1PodTemplateSpec;
} {
  const { engine, nodes } = context.revision;
  const isVllm = engine.kind === "vllm";
  const leader = isVllm ? vllmLeaderPod(context, engine) : embeddedLeaderPod(context, engine);
  if (nodes === 1) return { workerTemplate: leader };
  const follower = isVllm ? vllmFollowerPod(context, engine) : embeddedFollowerPod(context);
  return { leaderTemplate: leader, workerTemplate: follower };
}
