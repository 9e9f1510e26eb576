import type { Deployment, Revision } from "../cluster/deployment.ts";
import { nodeGroupName } from "../cluster/objects/names.ts";
import { findInstanceType, type InstanceType } from "../cluster/plan/instances.ts";
import { hardened, type NodeParts, named, nodeGroupIds, versionOf } from "./nodes.ts";

/**
 * The nodes that models run on: for each group that a revision may have a node group of its own, so that
 * its nodes are close together and can be given back without those of another group among them. They begin
 * empty; rollouts fill and empty them (functions/lib/eks/nodes.ts), and a deployment leaves their
 * size alone.
 */
export function groupNodes(deployment: Deployment, parts: NodeParts): aws.eks.NodeGroup[] {
  const revisions = deployment.models.flatMap((model) => model.revisions);
  return revisions.flatMap((revision) => {
    const type = findInstanceType(revision.instanceType);
    if (type === undefined) {
      throw new Error(`${revision.instanceType} is not in cluster/plan/instances.ts.`);
    }
    return Array.from({ length: revision.groups.max }, (_, index) =>
      nodesOfGroup(deployment, { type, revision, index }, parts),
    );
  });
}

interface Place {
  type: InstanceType;
  revision: Revision;
  /** Counts the node groups of the revision. */
  index: number;
}

function nodesOfGroup({ capacity }: Deployment, place: Place, parts: NodeParts): aws.eks.NodeGroup {
  const { type, revision, index } = place;
  const { eks, network, role } = parts;
  const hasGpus = type.gpus !== undefined;
  const source = hasGpus ? capacity : ({ kind: "on-demand" } as const);
  const template = launchTemplate(source, place, parts);
  return new aws.eks.NodeGroup(
    logicalOf(place),
    {
      clusterName: eks.name,
      nodeGroupName: nodeGroupName(revision.revision, index),
      nodeRoleArn: role.arn,
      subnetIds: [network.subnetIn(network.poolZones[type.name] ?? "")],
      amiType: hasGpus ? "AL2023_x86_64_NVIDIA" : "AL2023_x86_64_STANDARD",
      capacityType: source.kind === "block" ? "CAPACITY_BLOCK" : "ON_DEMAND",
      // A capacity block is bought for a type, which then stands in the template.
      ...(source.kind !== "block" && { instanceTypes: [type.name] }),
      scalingConfig: { minSize: 0, desiredSize: 0, maxSize: revision.nodes },
      updateConfig: { maxUnavailable: 1 },
      // Other pods stay away from what costs so much.
      ...(hasGpus && {
        taints: [{ key: "nvidia.com/gpu", value: "present", effect: "NO_SCHEDULE" }],
      }),
      launchTemplate: { id: template.id, version: versionOf(template) },
    },
    { ignoreChanges: ["scalingConfig.desiredSize"] },
  );
}

const logicalOf = ({ revision, index }: Place) => `Nodes-${revision.revision}-${index}`;

function launchTemplate(
  source: Deployment["capacity"],
  place: Place,
  { eks, network }: NodeParts,
): aws.ec2.LaunchTemplate {
  const { type, revision } = place;
  const spansNodes = revision.nodes > 1;
  const groups = nodeGroupIds(eks, network);
  return new aws.ec2.LaunchTemplate(logicalOf(place), {
    // Images of engines have 10 GB and more.
    ...hardened(200),
    // The embedded engine's ranks, which have no GPUs, talk over TCP.
    ...(spansNodes && type.gpus !== undefined && type.efaCards > 0
      ? { networkInterfaces: interfaces(type.efaCards, groups) }
      : { vpcSecurityGroupIds: groups }),
    ...(spansNodes && placement(logicalOf(place), source)),
    ...capacityOf(source, type.name),
    // The disks of the instance itself, where it has some, for images and the pods' own files.
    userData: Buffer.from(nodeConfig).toString("base64"),
    tagSpecifications: named(revision.revision),
    updateDefaultVersion: true,
  });
}

/**
 * Card 0 has the node's address (ENA), and beside it EFA; each other card has EFA alone, which takes no
 * address. Source: EC2 user guide, "Maximize network bandwidth on instances with multiple network cards".
 */
function interfaces(cards: number, securityGroups: $util.Input<string>[]) {
  const common = { securityGroups, deleteOnTermination: "true" };
  const efaOnly = Array.from({ length: cards }, (_, networkCardIndex) => ({
    ...common,
    networkCardIndex,
    deviceIndex: networkCardIndex === 0 ? 1 : 0,
    interfaceType: "efa-only",
  }));
  return [
    { ...common, networkCardIndex: 0, deviceIndex: 0, interfaceType: "interface" },
    ...efaOnly,
  ];
}

/**
 * Nodes side by side: all-reduces wait for the slowest pair. A capacity block is close together by itself,
 * and a reservation serves only the placement group that it was made in, which is the account's own.
 */
function placement(logical: string, source: Deployment["capacity"]) {
  if (source.kind === "block") return {};
  if (source.kind === "reservation") {
    return source.placementGroup === undefined
      ? {}
      : { placement: { groupName: source.placementGroup } };
  }
  const group = new aws.ec2.PlacementGroup(logical, { strategy: "cluster" });
  return { placement: { groupName: group.name } };
}

function capacityOf(source: Deployment["capacity"], instanceType: string) {
  if (source.kind === "on-demand") return {};
  return {
    capacityReservationSpecification: {
      capacityReservationTarget: { capacityReservationId: source.id },
    },
    ...(source.kind === "block" && {
      instanceMarketOptions: { marketType: "capacity-block" },
      instanceType,
    }),
  };
}

/** For nodeadm of AL2023, which EKS joins with its own part. */
const nodeConfig = `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  instance:
    localStorage:
      strategy: RAID0

--//--
`;
