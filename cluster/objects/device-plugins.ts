import type { V1DaemonSet, V1PodSpec } from "@kubernetes/client-node";

/**
 * What makes a node's GPUs and EFA cards resources that pods can ask for.
 *
 * The AL2023 NVIDIA image of EKS has the drivers of both and the plugin of neither, and no add-on of EKS
 * brings them (EKS user guide, "Install Kubernetes device plugin for GPUs", "Manage EFA devices"). The
 * guide's charts come down to these two DaemonSets. From Kubernetes 1.34 on AWS recommends its driver for
 * dynamic resource allocation instead of the EFA plugin, which goes on being supported for managed node
 * groups; the plugin works on every version that EKS offers.
 */

const registry = "602401143452.dkr.ecr.us-west-2.amazonaws.com";
const deviceImages = {
  nvidia: "nvcr.io/nvidia/k8s-device-plugin:v0.17.4",
  efa: `${registry}/eks/aws-efa-k8s-device-plugin:v0.5.5`,
} as const;

const kubeletFolder = "/var/lib/kubelet/device-plugins";
const kubeletVolume = { name: "device-plugins", hostPath: { path: kubeletFolder } };
const kubeletMount = { name: "device-plugins", mountPath: kubeletFolder };

function daemonSet(name: string, spec: Omit<V1PodSpec, "priorityClassName">): V1DaemonSet {
  const labels = { "app.kubernetes.io/name": name };
  return {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name, namespace: "kube-system", labels },
    spec: {
      selector: { matchLabels: labels },
      updateStrategy: { type: "RollingUpdate" },
      template: {
        metadata: { labels },
        spec: {
          priorityClassName: "system-node-critical",
          automountServiceAccountToken: false,
          tolerations: [{ key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" }],
          ...spec,
        },
      },
    },
  };
}

/** Only on the machines that need it: elsewhere there is nothing to offer. */
const onMachines = (instanceTypes: readonly string[]) => ({
  nodeAffinity: {
    requiredDuringSchedulingIgnoredDuringExecution: {
      nodeSelectorTerms: [
        {
          matchExpressions: [
            {
              key: "node.kubernetes.io/instance-type",
              operator: "In",
              values: [...instanceTypes],
            },
          ],
        },
      ],
    },
  },
});

/** Offers `nvidia.com/gpu`. */
export function nvidiaDevicePlugin(instanceTypes: readonly string[]): V1DaemonSet {
  return daemonSet("axon-nvidia-device-plugin", {
    affinity: onMachines(instanceTypes),
    containers: [
      {
        name: "plugin",
        image: deviceImages.nvidia,
        env: [{ name: "FAIL_ON_INIT_ERROR", value: "false" }],
        resources: { requests: { cpu: "10m", memory: "64Mi" } },
        securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
        volumeMounts: [kubeletMount],
      },
    ],
    volumes: [kubeletVolume],
  });
}

/** Offers `vpc.amazonaws.com/efa`. It counts the node's cards in the host's network. */
export function efaDevicePlugin(instanceTypes: readonly string[]): V1DaemonSet {
  return daemonSet("axon-efa-device-plugin", {
    affinity: onMachines(instanceTypes),
    hostNetwork: true,
    containers: [
      {
        name: "plugin",
        image: deviceImages.efa,
        resources: { requests: { cpu: "10m", memory: "20Mi" } },
        securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } },
        volumeMounts: [kubeletMount, { name: "infiniband", mountPath: "/dev/infiniband" }],
      },
    ],
    volumes: [kubeletVolume, { name: "infiniband", hostPath: { path: "/dev/infiniband" } }],
  });
}
