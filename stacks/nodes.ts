import type { Deployment } from "../cluster/deployment.ts";
import { footprint } from "../cluster/plan/cost.ts";
import type { Network } from "./network.ts";
import { nameOf } from "./stage.ts";

export interface NodeParts {
  eks: aws.eks.Cluster;
  network: Network;
  role: aws.iam.Role;
}

/** What nodes may do themselves: join, pull images, be reached by Session Manager instead of SSH. */
export function nodeRole(): aws.iam.Role {
  const partition = aws.getPartitionOutput().partition;
  const policies = [
    "AmazonEKSWorkerNodePolicy",
    "AmazonEC2ContainerRegistryPullOnly",
    // The network's pods are the node's own: without them no pod could get a role of its own.
    "AmazonEKS_CNI_Policy",
    "AmazonSSMManagedInstanceCore",
  ];
  return new aws.iam.Role("NodeRole", {
    name: nameOf("node"),
    assumeRolePolicy: aws.iam.assumeRolePolicyForPrincipal({ Service: "ec2.amazonaws.com" }),
    managedPolicyArns: policies.map(
      (policy) => $interpolate`arn:${partition}:iam::aws:policy/${policy}`,
    ),
  });
}

/** A relay asks for one core, and controllers share what is left. */
const relaysOfNode = 2;

/** Nodes without GPUs, in all zones: for relays, controllers, and add-ons. */
export function controlNodes({ relays }: Deployment, { eks, network, role }: NodeParts) {
  const count = Math.max(footprint.controlNodes, Math.ceil(relays.count / relaysOfNode));
  const template = new aws.ec2.LaunchTemplate("ControlNodes", {
    ...hardened(50),
    vpcSecurityGroupIds: nodeGroupIds(eks, network),
    tagSpecifications: named("control"),
    updateDefaultVersion: true,
  });
  return new aws.eks.NodeGroup("ControlNodes", {
    clusterName: eks.name,
    nodeGroupName: nameOf("control"),
    nodeRoleArn: role.arn,
    subnetIds: network.vpc.privateSubnets,
    amiType: "AL2023_ARM_64_STANDARD",
    instanceTypes: [footprint.controlNode],
    scalingConfig: { minSize: count, desiredSize: count, maxSize: count + 2 },
    updateConfig: { maxUnavailable: 1 },
    launchTemplate: { id: template.id, version: versionOf(template) },
  });
}

/** The group of EKS, by which the control plane reaches nodes, and ours, by which they reach the rest. */
export const nodeGroupIds = (eks: aws.eks.Cluster, { groups }: Network) => [
  eks.vpcConfig.apply(({ clusterSecurityGroupId }) => clusterSecurityGroupId),
  groups.nodes.id,
];

/** Encrypted disks, and the instance's credentials out of the reach of pods. */
export const hardened = (diskGigabytes: number) => ({
  metadataOptions: { httpTokens: "required", httpPutResponseHopLimit: 1, httpEndpoint: "enabled" },
  blockDeviceMappings: [
    {
      deviceName: "/dev/xvda",
      ebs: {
        volumeSize: diskGigabytes,
        ...{ volumeType: "gp3", encrypted: "true", deleteOnTermination: "true" },
      },
    },
  ],
});

export const named = (pool: string) =>
  ["instance", "volume"].map((resourceType) => ({ resourceType, tags: { Name: nameOf(pool) } }));

export const versionOf = (template: aws.ec2.LaunchTemplate) =>
  template.latestVersion.apply((version) => String(version));
