import type {
  V1NetworkPolicy,
  V1NetworkPolicyEgressRule,
  V1NetworkPolicyPeer,
  V1NetworkPolicyPort,
  V1NetworkPolicySpec,
} from "@kubernetes/client-node";
import type { Deployment } from "../deployment.ts";
import { collectorPort } from "../tracing.ts";
import { labelsOf, namespace, ports, scraperLabel, setLabel } from "./names.ts";
import type { ClusterSettings } from "./settings.ts";

/**
 * Who may talk to whom. Nothing may that is not said here.
 *
 * Between the nodes of a group vLLM speaks without encryption, in a format that lets whoever can reach it
 * run code (docs.vllm.ai, "Security"): its members are alone with each other. EFA's own traffic does not
 * pass through these policies but through the nodes' security group. They are enforced where the VPC CNI
 * has `enableNetworkPolicy`; the kubelet's probes always pass.
 */

/** As it is sent; the client's own type has `_from` for `from`, which its serializer renames. */
export type NetworkPolicy = Omit<V1NetworkPolicy, "spec"> & {
  spec: Omit<V1NetworkPolicySpec, "ingress"> & {
    ingress?: { from?: V1NetworkPolicyPeer[]; ports?: V1NetworkPolicyPort[] }[];
  };
};

function policy(name: string, spec: NetworkPolicy["spec"]): NetworkPolicy {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace },
    spec,
  };
}

const tcp = (port: number) => ({ protocol: "TCP", port });

const toNames: V1NetworkPolicyEgressRule = {
  to: [
    {
      namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } },
      podSelector: { matchLabels: { "k8s-app": "kube-dns" } },
    },
  ],
  ports: [{ protocol: "UDP", port: 53 }, tcp(53)],
};

/** SQS, S3, Lambda, API Gateway: some have no address in the VPC. The instance metadata has none here. */
const toAws: V1NetworkPolicyEgressRule = {
  to: [{ ipBlock: { cidr: "0.0.0.0/0", except: ["169.254.0.0/16"] } }],
  ports: [tcp(443)],
};

/** The agent that gives pods their roles (EKS user guide, "EKS Pod Identity"). */
const toPodIdentity: V1NetworkPolicyEgressRule = {
  to: [{ ipBlock: { cidr: "169.254.170.23/32" } }],
  ports: [tcp(80)],
};

/** For the whole namespace. */
export function basePolicies(deployment: Deployment, settings: ClusterSettings): NetworkPolicy[] {
  const toRedis: V1NetworkPolicyEgressRule = {
    to: [{ ipBlock: { cidr: settings.vpcCidr } }],
    ports: settings.redisPorts.map(tcp),
  };
  // Within the VPC: pods have addresses of it, too. What listens at 443 is let through with AWS's services.
  const port = collectorPort(deployment);
  const toCollector: V1NetworkPolicyEgressRule[] =
    port === undefined
      ? []
      : [{ to: [{ ipBlock: { cidr: settings.vpcCidr } }], ports: [tcp(port)] }];
  const door = policy("axon-relay-door", {
    podSelector: { matchLabels: labelsOf("relay") },
    policyTypes: ["Ingress"],
    // A load balancer that keeps the clients' addresses.
    ingress: [{ ports: [tcp(ports.door)] }],
  });
  return [
    policy("axon-deny", { podSelector: {}, policyTypes: ["Ingress", "Egress"] }),
    policy("axon-stores", {
      podSelector: { matchLabels: { "app.kubernetes.io/name": "axon" } },
      policyTypes: ["Egress"],
      egress: [toNames, toRedis, toAws, toPodIdentity, ...toCollector],
    }),
    policy("axon-metrics", {
      podSelector: {
        matchExpressions: [
          { key: "app.kubernetes.io/component", operator: "In", values: ["leader", "relay"] },
        ],
      },
      policyTypes: ["Ingress"],
      // Beside what a group's own policy allows: rules of several policies add up.
      ingress: [
        {
          from: [{ namespaceSelector: { matchLabels: scraperLabel } }],
          ports: [tcp(ports.probes)],
        },
      ],
    }),
    ...(deployment.relays.frontDoor ? [door] : []),
  ];
}

/** Members of one group are alone with each other: a LeaderWorkerSet has one, and its policy the set's name. */
export function groupPolicy(set: string): NetworkPolicy {
  const members = { podSelector: { matchLabels: { [setLabel]: set } } };
  return policy(set, {
    ...members,
    policyTypes: ["Ingress", "Egress"],
    ingress: [{ from: [members] }],
    egress: [{ to: [members] }],
  });
}
