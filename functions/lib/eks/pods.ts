import * as z from "zod";
import { namespace, setLabel } from "../../../cluster/objects/names.ts";
import type { Kind, KubernetesApi } from "./api.ts";
import { kubernetesFailure } from "./errors.ts";

const pods: Kind = { apiVersion: "v1", resource: "pods", namespace };

const containerSchema = z.object({
  name: z.string(),
  state: z
    .object({
      waiting: z.object({ reason: z.string().default(""), message: z.string().default("") }),
    })
    .partial()
    .default({}),
});
const podSchema = z.object({
  metadata: z.object({ name: z.string(), labels: z.record(z.string(), z.string()).default({}) }),
  status: z
    .object({
      initContainerStatuses: z.array(containerSchema).default([]),
      containerStatuses: z.array(containerSchema).default([]),
    })
    .prefault({}),
});

/**
 * What the kubelet says of a container that will never run as it is described (kubernetes,
 * pkg/kubelet/images/types.go and kuberuntime). A crash is none of them: the next start may succeed.
 */
const hopeless = new Set([
  "CreateContainerConfigError",
  "ErrImageNeverPull",
  "ImagePullBackOff",
  "InvalidImageName",
]);

/**
 * Why groups will never be ready, by the name of their set.
 * @throws ClusterError
 */
export async function podFailures(kubernetes: KubernetesApi): Promise<Map<string, string>> {
  const failures = new Map<string, string>();
  try {
    for (const item of await kubernetes.list(pods, setLabel)) {
      const { metadata, status } = podSchema.parse(item);
      const set = metadata.labels[setLabel];
      if (set === undefined) continue;
      for (const { name, state } of [
        ...status.initContainerStatuses,
        ...status.containerStatuses,
      ]) {
        if (state.waiting === undefined || !hopeless.has(state.waiting.reason)) continue;
        const { reason, message } = state.waiting;
        failures.set(set, `${reason} of ${name} in ${metadata.name}: ${message}`.slice(0, 500));
      }
    }
  } catch (error) {
    throw kubernetesFailure(error, "listing pods");
  }
  return failures;
}
