import type { V1PodTemplateSpec, V1ResourceRequirements } from "@kubernetes/client-node";
import type { Revision } from "../deployment.ts";
import { folders, labelsOf, names, ports, scrapeAnnotations } from "./names.ts";
import {
  confined,
  groupPod,
  modelFiles,
  modelMount,
  modelVolume,
  variables,
  workerContainer,
} from "./pod-parts.ts";
import { ObjectError, type PodContext } from "./settings.ts";

/**
 * Pods of a group of the embedded engine. On one node the ranks are threads of the worker; over several
 * there is one rank a node, which joins the leader over TCP. Ranks and leader beat to each other every 500 ms
 * (docs/PROTOCOL.md, "Between ranks"), so no heartbeat stands beside them.
 */

type EmbeddedEngine = Extract<Revision["engine"], { kind: "embedded" }>;

const GiB = 2 ** 30;

/** Most of a node: the leader and its ranks want its cores and its memory for themselves. */
function nodeResources({ machine }: PodContext): V1ResourceRequirements {
  const memory = `${Math.floor((machine.memoryBytes / GiB) * 0.85)}Gi`;
  return {
    requests: { cpu: String(Math.max(1, Math.floor(machine.vcpus * 0.8))), memory },
    limits: { memory },
  };
}

const groupSecret = {
  name: "AXON_GROUP_SECRET",
  valueFrom: { secretKeyRef: { name: names.groupSecret, key: "AXON_GROUP_SECRET" } },
};

/** @throws ObjectError where the ranks are not one a node */
export function embeddedLeaderPod(
  context: PodContext,
  { weights }: EmbeddedEngine,
): V1PodTemplateSpec {
  const { revision } = context;
  const { nodes, tensorParallel, pipelineParallel } = revision;
  if (pipelineParallel > 1 || (nodes > 1 && tensorParallel !== nodes)) {
    throw new ObjectError(
      `${revision.revision}: the embedded engine has one rank a node on several nodes, and no pipeline: tensorParallel has to be ${nodes}, pipelineParallel 1.`,
    );
  }
  const transport =
    nodes === 1
      ? variables({ AXON_TRANSPORT: "threads" })
      : [
          ...variables({ AXON_TRANSPORT: "remote", AXON_LISTEN: `0.0.0.0:${ports.ranks}` }),
          groupSecret,
        ];
  return {
    metadata: {
      labels: labelsOf("leader", revision.revision),
      annotations: scrapeAnnotations,
    },
    spec: {
      ...groupPod(context),
      initContainers: [modelFiles(context)],
      containers: [
        workerContainer(context, {
          env: [
            ...variables({ AXON_ENGINE: "embedded", AXON_TP: tensorParallel }),
            ...variables({ AXON_MODEL_DIR: folders.model, AXON_WEIGHTS: weights }),
            ...transport,
          ],
          mounts: [modelMount],
          resources: nodeResources(context),
        }),
      ],
      volumes: [modelVolume],
    },
  };
}

/** A rank; LeaderWorkerSet's index of the pod is its number. */
export function embeddedFollowerPod(context: PodContext): V1PodTemplateSpec {
  const { revision, settings } = context;
  return {
    metadata: { labels: labelsOf("follower", revision.revision) },
    spec: {
      ...groupPod(context),
      initContainers: [modelFiles(context)],
      containers: [
        {
          name: "rank",
          image: settings.image,
          args: [
            "dataplane/engine/rank.ts",
            ...["--rank", "$(LWS_WORKER_INDEX)"],
            ...["--leader", `$(LWS_LEADER_ADDRESS):${ports.ranks}`],
            ...["--model", folders.model, "--tp", String(revision.tensorParallel)],
            // It waits for its leader to listen.
            "--rejoin",
          ],
          env: [groupSecret],
          resources: nodeResources(context),
          securityContext: confined,
          volumeMounts: [modelMount],
        },
      ],
      volumes: [modelVolume],
    },
  };
}
