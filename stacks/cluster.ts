import type { Deployment } from "../cluster/deployment.ts";
import type { Cache } from "./cache.ts";
import { addons } from "./cluster-addons.ts";
import type { Functions } from "./functions.ts";
import { dataPlaneImage } from "./image.ts";
import type { Key } from "./key.ts";
import { applyObjects, clusterSettings } from "./kubernetes.ts";
import type { Models } from "./models.ts";
import type { Network } from "./network.ts";
import { controlNodes, nodeRole } from "./nodes.ts";
import { podRoles } from "./pod-roles.ts";
import { groupNodes } from "./pools.ts";
import type { Queues } from "./queues.ts";
import type { Socket } from "./socket.ts";
import { isProduction, nameOf } from "./stage.ts";

export type Cluster = ReturnType<typeof cluster>;

export interface ClusterParts {
  key: Key;
  network: Network;
  queues: Queues;
  cache: Cache;
  models: Models;
  socket: Socket;
  handlers: Functions;
}

/** The version of Kubernetes; EKS supports each for 14 months, and moves on one at a time. */
const kubernetesVersion = "1.35";

/**
 * The cluster of the data plane: the control plane here, then nodes, roles of pods, and what runs on them,
 * each in its file.
 */
export function cluster(deployment: Deployment, parts: ClusterParts) {
  const { network, key } = parts;
  const eks = controlPlane(deployment, network, key);
  const role = nodeRole();
  const control = controlNodes(deployment, { eks, network, role });
  const pools = groupNodes(deployment, { eks, network, role });
  const installed = addons(eks, control);
  const roles = podRoles(deployment, { ...parts, eks });
  const settings = clusterSettings(dataPlaneImage(), parts);
  applyObjects(deployment, { ...parts, eks, settings, after: [control, ...installed, ...roles] });
  return { eks, pools, settings };
}

/**
 * Its API is reached from the addresses of `kubernetesApi` in axon.config.ts, and needs a credential of
 * IAM from wherever: who deploys is its administrator, and the roles that the deployment names are too.
 */
function controlPlane({ kubernetesApi }: Deployment, { vpc }: Network, key: Key) {
  const name = nameOf("data-plane");
  const partition = aws.getPartitionOutput().partition;
  const role = new aws.iam.Role("ClusterRole", {
    name: nameOf("cluster"),
    assumeRolePolicy: aws.iam.assumeRolePolicyForPrincipal({ Service: "eks.amazonaws.com" }),
    managedPolicyArns: [$interpolate`arn:${partition}:iam::aws:policy/AmazonEKSClusterPolicy`],
  });
  // EKS would make it without an end and without a key.
  const logs = new aws.cloudwatch.LogGroup("ClusterLogs", {
    name: `/aws/eks/${name}/cluster`,
    retentionInDays: 30,
    kmsKeyId: key.arn,
  });
  const eks = new aws.eks.Cluster(
    "Cluster",
    {
      name,
      version: kubernetesVersion,
      roleArn: role.arn,
      accessConfig: {
        authenticationMode: "API",
        bootstrapClusterCreatorAdminPermissions: true,
      },
      vpcConfig: {
        subnetIds: vpc.privateSubnets,
        endpointPrivateAccess: true,
        endpointPublicAccess: true,
        publicAccessCidrs: kubernetesApi.from,
      },
      encryptionConfig: { provider: { keyArn: key.arn }, resources: ["secrets"] },
      enabledClusterLogTypes: ["api", "audit", "authenticator"],
      bootstrapSelfManagedAddons: false,
      deletionProtection: isProduction(),
      upgradePolicy: { supportType: "STANDARD" },
    },
    { dependsOn: [logs] },
  );
  for (const [i, principalArn] of kubernetesApi.administrators.entries()) {
    administrator(`Administrator${i + 1}`, eks, principalArn);
  }
  return eks;
}

function administrator(logical: string, eks: aws.eks.Cluster, principalArn: string): void {
  const entry = new aws.eks.AccessEntry(logical, { clusterName: eks.name, principalArn });
  const partition = aws.getPartitionOutput().partition;
  new aws.eks.AccessPolicyAssociation(
    `${logical}Policy`,
    {
      clusterName: eks.name,
      principalArn,
      policyArn: $interpolate`arn:${partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy`,
      accessScope: { type: "cluster" },
    },
    { dependsOn: [entry] },
  );
}
