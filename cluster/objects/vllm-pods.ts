import type {
  V1Container,
  V1EnvVar,
  V1PodTemplateSpec,
  V1ResourceRequirements,
  V1Volume,
  V1VolumeMount,
} from "@kubernetes/client-node";
import type { Revision } from "../deployment.ts";
import {
  folders,
  labelsOf,
  leaderNameAnnotation,
  names,
  ports,
  scrapeAnnotations,
} from "./names.ts";
import { confined, fromPod, groupPod, variables, workerContainer } from "./pod-parts.ts";
import { type Machine, ObjectError, type PodContext, patience } from "./settings.ts";
import {
  followerProcesses,
  type VllmEngine,
  vllmFollowerCommand,
  vllmLeaderCommand,
} from "./vllm-command.ts";

/**
 * Pods of a group of vLLM.
 *
 * vLLM runs as what Kubernetes calls a sidecar container (an init container that restarts; stable since 1.33)
 * and our process as the pod's main one. So they end in the right order without a preStop hook: SIGTERM
 * goes to the worker, which drains, and to vLLM only after the worker has ended; on a follower's node to
 * the heartbeat, which stays until the leader has ended its turns, and then to vLLM.
 */

/** Room for vLLM's processes to pass tensors to each other. */
const sharedMemoryGibPerGpu = 4;
/** Of a node's memory for vLLM; the rest is for the system, Kubernetes, and our containers. */
const memoryShare = 0.85;
const GiB = 2 ** 30;
/** What libfabric's provider for EFA asks for (aws-samples, EFA on EKS). */
const hugePages = "5120Mi";

/** @throws ObjectError where the GPUs do not divide over the nodes, or a node has too few */
function gpusPerNode(revision: Revision, machine: Machine): number {
  const { tensorParallel, pipelineParallel, nodes, instanceType } = revision;
  const gpus = (tensorParallel * pipelineParallel) / nodes;
  const there = machine.gpus?.count ?? 0;
  if (Number.isInteger(gpus) && gpus <= there) return gpus;
  throw new ObjectError(
    `${revision.revision}: ${tensorParallel} × ${pipelineParallel} GPUs on ${nodes} nodes are ${gpus} a node; ${instanceType} has ${there}.`,
  );
}

/** Cards for EFA that a node of the group gets: its share of them, and none where the group is one node. */
function efaPerNode(revision: Revision, machine: Machine): number {
  if (revision.nodes === 1 || machine.efaCards === 0) return 0;
  const share = gpusPerNode(revision, machine) / (machine.gpus?.count ?? 1);
  return Math.max(1, Math.floor(machine.efaCards * share));
}

function engineResources(revision: Revision, machine: Machine): V1ResourceRequirements {
  const gpus = gpusPerNode(revision, machine);
  const efa = efaPerNode(revision, machine);
  const share = gpus / (machine.gpus?.count ?? 1);
  const memory = `${Math.floor((machine.memoryBytes / GiB) * memoryShare * share)}Gi`;
  const devices = {
    "nvidia.com/gpu": String(gpus),
    ...(efa > 0 && { "vpc.amazonaws.com/efa": String(efa), "hugepages-2Mi": hugePages }),
  };
  return {
    requests: { cpu: String(Math.floor(machine.vcpus * 0.8 * share)), memory, ...devices },
    limits: { memory, ...devices },
  };
}

/**
 * NCCL says into files which network it uses (nccl-gate.ts reads them); libfabric is held to EFA, with
 * RDMA from GPU memory (AWS, "Get started with EFA and NCCL").
 */
function networkVariables(revision: Revision, machine: Machine): V1EnvVar[] {
  if (revision.nodes === 1) return [];
  return variables({
    NCCL_DEBUG: "INFO",
    NCCL_DEBUG_SUBSYS: "INIT,NET,GRAPH",
    NCCL_DEBUG_FILE: `${folders.ncclLogs}/%h.%p.log`,
    // The interface of the pod, for finding each other; vLLM's own process groups use it too.
    NCCL_SOCKET_IFNAME: "eth0",
    GLOO_SOCKET_IFNAME: "eth0",
    ...(efaPerNode(revision, machine) > 0 && { FI_PROVIDER: "efa", FI_EFA_USE_DEVICE_RDMA: 1 }),
  });
}

const ncclMount: V1VolumeMount = { name: "nccl-logs", mountPath: folders.ncclLogs };

function engineContainer(
  { deployment, revision, machine }: PodContext,
  engine: VllmEngine,
  command: string[],
): V1Container {
  return {
    name: "vllm",
    image: engine.image,
    restartPolicy: "Always",
    command,
    env: [
      fromPod("VLLM_HOST_IP", "status.podIP"),
      ...variables({
        AWS_REGION: deployment.region,
        HF_HUB_OFFLINE: 1,
        VLLM_NO_USAGE_STATS: 1,
      }),
      ...networkVariables(revision, machine),
    ],
    resources: engineResources(revision, machine),
    securityContext: {
      allowPrivilegeEscalation: false,
      // For RDMA and for NCCL's buffers, which must not be paged out.
      capabilities: { drop: ["ALL"], add: ["IPC_LOCK"] },
      seccompProfile: { type: "RuntimeDefault" },
    },
    volumeMounts: [
      { name: "shared-memory", mountPath: "/dev/shm" },
      ...(revision.nodes > 1 ? [ncclMount] : []),
    ],
  };
}

function volumes({ revision, machine }: PodContext): V1Volume[] {
  const sizeLimit = `${sharedMemoryGibPerGpu * gpusPerNode(revision, machine)}Gi`;
  return [
    { name: "shared-memory", emptyDir: { medium: "Memory", sizeLimit } },
    ...(revision.nodes > 1 ? [{ name: "nccl-logs", emptyDir: { sizeLimit: "1Gi" } }] : []),
  ];
}

/** Where the logs are read by: only a network that can be EFA is held to it. */
function gateVariables({ revision, machine }: PodContext): V1EnvVar[] {
  const isGated = efaPerNode(revision, machine) > 0;
  return isGated ? variables({ AXON_NCCL_LOGS: folders.ncclLogs }) : [];
}

const readLogs = ({ revision }: PodContext): V1VolumeMount[] =>
  revision.nodes > 1 ? [{ ...ncclMount, readOnly: true }] : [];

/** vLLM's server, and the worker that talks to it over the loopback address. */
export function vllmLeaderPod(context: PodContext, engine: VllmEngine): V1PodTemplateSpec {
  const { revision, settings } = context;
  const command = vllmLeaderCommand(revision, engine, settings.modelBucket);
  return {
    metadata: {
      labels: labelsOf("leader", revision.revision),
      annotations: scrapeAnnotations,
    },
    spec: {
      ...groupPod(context),
      initContainers: [engineContainer(context, engine, command)],
      containers: [
        workerContainer(context, {
          env: [
            ...variables({
              AXON_ENGINE: "vllm",
              AXON_ENGINE_URL: `http://127.0.0.1:${ports.engine}`,
              AXON_ENGINE_READY_MS: patience.start * 1_000,
              AXON_ENGINE_STALL_MS: patience.stall * 1_000,
              AXON_TP: revision.tensorParallel * revision.pipelineParallel,
              AXON_FOLLOWERS: revision.nodes - 1,
              AXON_VOCABULARY_TOKENS: revision.shape.vocabularySize,
            }),
            ...gateVariables(context),
          ],
          mounts: readLogs(context),
          resources: { requests: { cpu: "2", memory: "1Gi" }, limits: { memory: "2Gi" } },
        }),
      ],
      volumes: volumes(context),
    },
  };
}

/** vLLM without an API, and the heartbeat, which sees vLLM's processes by the shared process namespace. */
export function vllmFollowerPod(context: PodContext, engine: VllmEngine): V1PodTemplateSpec {
  const { revision, settings } = context;
  const command = vllmFollowerCommand(revision, engine, settings.modelBucket);
  const drainMs = (patience.drain + patience.margin) * 1_000;
  return {
    metadata: { labels: labelsOf("follower", revision.revision) },
    spec: {
      ...groupPod(context),
      shareProcessNamespace: true,
      initContainers: [engineContainer(context, engine, command)],
      containers: [
        {
          name: "follower",
          image: settings.image,
          args: ["dataplane/follower.ts"],
          env: [
            fromPod("AXON_GROUP_ID", `metadata.annotations['${leaderNameAnnotation}']`),
            ...variables({
              AXON_RANK: "$(LWS_WORKER_INDEX)",
              AXON_WATCH: followerProcesses(engine),
              AXON_DRAIN_MS: drainMs,
            }),
            ...gateVariables(context),
          ],
          envFrom: [{ secretRef: { name: names.redisSecret } }],
          resources: { requests: { cpu: "250m", memory: "128Mi" }, limits: { memory: "256Mi" } },
          securityContext: confined,
          volumeMounts: readLogs(context),
        },
      ],
      volumes: volumes(context),
    },
  };
}
