import {
  DescribeNodegroupCommand,
  type EKSClient,
  ListNodegroupsCommand,
  type Nodegroup,
  UpdateNodegroupConfigCommand,
} from "@aws-sdk/client-eks";
import * as z from "zod";
import { nodeGroupLabel, nodeGroupName } from "../../../cluster/objects/names.ts";
import type { Kind, KubernetesApi } from "./api.ts";
import { eksFailure, kubernetesFailure } from "./errors.ts";

/** The machines of a revision: node groups of EKS, each for one group. */
export interface NodeGroup {
  name: string;
  /** Nodes that it shall have. */
  asked: number;
  /** Nodes that are ready. */
  ready: number;
  /** Why there will be no more, where EKS says so. */
  failure: string | undefined;
}

const nodes: Kind = { apiVersion: "v1", resource: "nodes", namespace: undefined };

const nodeSchema = z.object({
  metadata: z.object({ labels: z.record(z.string(), z.string()).default({}) }),
  spec: z.object({ unschedulable: z.boolean().default(false) }).prefault({}),
  status: z
    .object({
      conditions: z.array(z.object({ type: z.string(), status: z.string() })).default([]),
    })
    .prefault({}),
});

/**
 * A node group's troubles that do not go away while one waits (API reference of EKS, "Issue"). That there
 * is no machine of a kind at the moment is none of them: an Auto Scaling group goes on trying.
 */
const lasting = new Set([
  "AccessDenied",
  "AmiIdNotFound",
  "AsgInstanceLaunchFailures",
  "AutoScalingGroupInvalidConfiguration",
  "AutoScalingGroupNotFound",
  "Ec2LaunchTemplateInvalidConfiguration",
  "Ec2LaunchTemplateNotFound",
  "Ec2SecurityGroupNotFound",
  "Ec2SubnetInvalidConfiguration",
  "Ec2SubnetNotFound",
  "IamInstanceProfileNotFound",
  "IamNodeRoleNotFound",
  "InstanceLimitExceeded",
]);
/** What is said of launches that have failed only for now. */
const passing = /InsufficientInstanceCapacity|insufficient capacity|could not launch .*capacity/i;

function failureOf({ health }: Nodegroup): string | undefined {
  const issue = health?.issues?.find(
    ({ code = "", message = "" }) => lasting.has(code) && !passing.test(message),
  );
  return issue && `${issue.code}: ${issue.message}`;
}

/**
 * The node groups of a revision that there are, in the order of their numbers.
 * @param most how many a revision may have.
 * @throws ClusterError
 */
export async function nodeGroupsOf(
  { eks, kubernetes, cluster }: { eks: EKSClient; kubernetes: KubernetesApi; cluster: string },
  revisions: readonly { revision: string; most: number }[],
): Promise<Map<string, NodeGroup[]>> {
  const [names, ready] = await Promise.all([listNames(eks, cluster), readyNodes(kubernetes)]);
  const found = revisions.map(async ({ revision, most }) => {
    const own = Array.from({ length: most }, (_, index) => nodeGroupName(revision, index));
    const there = own.filter((name) => names.has(name));
    const groups = there.map((name) => describe(eks, cluster, name, ready.get(name) ?? 0));
    return [revision, await Promise.all(groups)] as const;
  });
  return new Map(await Promise.all(found));
}

async function listNames(eks: EKSClient, clusterName: string): Promise<Set<string>> {
  const names = new Set<string>();
  try {
    let nextToken: string | undefined;
    do {
      const page = await eks.send(new ListNodegroupsCommand({ clusterName, nextToken }));
      for (const name of page.nodegroups ?? []) names.add(name);
      nextToken = page.nextToken;
    } while (nextToken !== undefined);
  } catch (error) {
    throw eksFailure(error, "listing node groups");
  }
  return names;
}

async function describe(
  eks: EKSClient,
  clusterName: string,
  nodegroupName: string,
  ready: number,
): Promise<NodeGroup> {
  try {
    const { nodegroup = {} } = await eks.send(
      new DescribeNodegroupCommand({ clusterName, nodegroupName }),
    );
    const asked = nodegroup.scalingConfig?.desiredSize ?? 0;
    return { name: nodegroupName, asked, ready, failure: failureOf(nodegroup) };
  } catch (error) {
    throw eksFailure(error, `describing the node group ${nodegroupName}`);
  }
}

/** Nodes that pods can be on, by node group. */
async function readyNodes(kubernetes: KubernetesApi): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  try {
    for (const item of await kubernetes.list(nodes, nodeGroupLabel)) {
      const { metadata, spec, status } = nodeSchema.parse(item);
      const name = metadata.labels[nodeGroupLabel];
      const isReady = status.conditions.some(
        (condition) => condition.type === "Ready" && condition.status === "True",
      );
      if (name === undefined || !isReady || spec.unschedulable) continue;
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
  } catch (error) {
    throw kubernetesFailure(error, "listing nodes");
  }
  return counts;
}

/**
 * Asks for so many nodes.
 * @throws ClusterError; conflict while another update of the node group is under way
 */
export async function scaleNodeGroup(
  eks: EKSClient,
  clusterName: string,
  nodegroupName: string,
  desiredSize: number,
): Promise<void> {
  try {
    await eks.send(
      new UpdateNodegroupConfigCommand({
        ...{ clusterName, nodegroupName },
        // An update that is sent again by the client's own retry is the same update.
        clientRequestToken: crypto.randomUUID(),
        scalingConfig: { desiredSize },
      }),
    );
  } catch (error) {
    throw eksFailure(error, `scaling ${nodegroupName} to ${desiredSize}`);
  }
}
