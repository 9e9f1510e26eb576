import type {
  V1Container,
  V1EnvVar,
  V1PodSpec,
  V1Probe,
  V1ResourceRequirements,
  V1SecurityContext,
  V1Volume,
  V1VolumeMount,
} from "@kubernetes/client-node";
import { folders, names, ports, revisionName } from "./names.ts";
import { gracePeriodSeconds, type PodContext, patience } from "./settings.ts";

/** The user of our image; it owns nothing on a node. */
const userId = 10_001;

/** For our own containers: nothing but their process. */
export const confined: V1SecurityContext = {
  runAsNonRoot: true,
  runAsUser: userId,
  runAsGroup: userId,
  allowPrivilegeEscalation: false,
  readOnlyRootFilesystem: true,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
};

/** Variables with constant values, in order. */
export function variables(values: Record<string, string | number>): V1EnvVar[] {
  return Object.entries(values).map(([name, value]) => ({ name, value: String(value) }));
}

/** A variable with a value of the pod's own. */
export const fromPod = (name: string, fieldPath: string): V1EnvVar => ({
  name,
  valueFrom: { fieldRef: { fieldPath } },
});

const probe = (path: "/live" | "/ready", timing: Partial<V1Probe>): V1Probe => ({
  httpGet: { path, port: ports.probes },
  timeoutSeconds: 2,
  ...timing,
});

/**
 * The probes of a group's worker.
 * - startup: until the group answers; no other probe counts before.
 * - readiness: the engine answers, followers beat, Redis can be reached. It restarts nothing.
 * - liveness: turns run and steps are made. A failed one ends the worker soon: turns of a stuck engine
 *   cannot drain, and go on elsewhere as soon as their leases run out.
 */
const workerProbes = {
  startupProbe: probe("/ready", {
    periodSeconds: 10,
    failureThreshold: patience.start / 10,
  }),
  readinessProbe: probe("/ready", { periodSeconds: 2, failureThreshold: 2 }),
  livenessProbe: probe("/live", {
    periodSeconds: 5,
    failureThreshold: 2,
    terminationGracePeriodSeconds: 5,
  }),
};

/** The worker of a group's leader, whatever its engine is. */
export function workerContainer(
  { revision, settings }: PodContext,
  more: { env: V1EnvVar[]; mounts: V1VolumeMount[]; resources: V1ResourceRequirements },
): V1Container {
  return {
    name: "worker",
    image: settings.image,
    args: ["dataplane/worker.ts"],
    env: [
      fromPod("AXON_GROUP_ID", "metadata.name"),
      ...variables({
        AXON_SLOTS: revision.slots,
        AXON_CONTEXT_TOKENS: revision.contextTokens,
        AXON_DRAIN_MS: patience.drain * 1_000,
        AXON_PROBES: `0.0.0.0:${ports.probes}`,
        AXON_STALL_MS: 2 * patience.stall * 1_000,
      }),
      ...more.env,
    ],
    envFrom: [
      { configMapRef: { name: revisionName(revision.revision) } },
      { secretRef: { name: names.redisSecret } },
    ],
    ports: [{ name: "probes", containerPort: ports.probes }],
    ...workerProbes,
    resources: more.resources,
    securityContext: confined,
    volumeMounts: more.mounts,
  };
}

/** Brings the checkpoint from the bucket, before anything else of the pod starts. */
export function modelFiles({ deployment, revision, settings }: PodContext): V1Container {
  return {
    name: "model-files",
    image: settings.image,
    args: ["dataplane/fetch-model.ts"],
    env: variables({
      AWS_REGION: deployment.region,
      AXON_MODEL_URL: weightsUrl(settings.modelBucket, revision.weights),
      AXON_MODEL_DIR: folders.model,
    }),
    resources: { requests: { cpu: "1", memory: "512Mi" }, limits: { memory: "1Gi" } },
    securityContext: confined,
    volumeMounts: [{ name: "model", mountPath: folders.model }],
  };
}

export const weightsUrl = (bucket: string, weights: string): string => `s3://${bucket}/${weights}`;

export const modelMount: V1VolumeMount = {
  name: "model",
  mountPath: folders.model,
  readOnly: true,
};

export const modelVolume: V1Volume = { name: "model", emptyDir: {} };

/** What every pod of a group has in common: where it runs, and how it ends. */
export function groupPod({ deployment, revision, machine }: PodContext): Partial<V1PodSpec> {
  const { capacity } = deployment;
  // What is reserved, and so in one zone, are the machines with GPUs.
  const isReserved = capacity.kind !== "on-demand" && machine.gpus !== undefined;
  return {
    serviceAccountName: names.workerAccount,
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    terminationGracePeriodSeconds: gracePeriodSeconds,
    nodeSelector: {
      "node.kubernetes.io/instance-type": revision.instanceType,
      ...(isReserved && { "topology.kubernetes.io/zone": capacity.zone }),
    },
    // Nodes with GPUs keep everything away that does not ask for them.
    tolerations: [{ key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" }],
  };
}
