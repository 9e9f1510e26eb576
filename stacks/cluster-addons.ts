/**
 * What EKS itself keeps in the cluster: the network, names, proxying, credentials of pods, and their logs
 * and metrics in CloudWatch. Device plugins and the LeaderWorkerSet controller are no add-ons of EKS; they
 * come with the objects (kubernetes.ts).
 * @param control the nodes that the add-ons' pods run on
 */
export function addons(eks: aws.eks.Cluster, control: aws.eks.NodeGroup): aws.eks.Addon[] {
  const partition = aws.getPartitionOutput().partition;
  const cloudwatchRole = new aws.iam.Role("CloudWatchRole", {
    assumeRolePolicy: podsAssume,
    managedPolicyArns: [$interpolate`arn:${partition}:iam::aws:policy/CloudWatchAgentServerPolicy`],
  });
  const addon = (
    addonName: string,
    args: Partial<aws.eks.AddonArgs> = {},
    after: $util.Resource[] = [],
  ) =>
    new aws.eks.Addon(
      `Addon-${addonName}`,
      {
        clusterName: eks.name,
        addonName,
        resolveConflictsOnCreate: "OVERWRITE",
        resolveConflictsOnUpdate: "OVERWRITE",
        ...args,
      },
      { dependsOn: after },
    );
  // Nodes become ready by these; so they must not wait for nodes.
  const identity = addon("eks-pod-identity-agent");
  const network = addon("vpc-cni", {
    configurationValues: JSON.stringify({ enableNetworkPolicy: "true" }),
  });
  const proxy = addon("kube-proxy");
  const coredns = addon("coredns", {}, [control]);
  const cloudwatch = addon(
    "amazon-cloudwatch-observability",
    {
      podIdentityAssociations: [
        { serviceAccount: "cloudwatch-agent", roleArn: cloudwatchRole.arn },
      ],
    },
    [control],
  );
  return [identity, network, proxy, coredns, cloudwatch];
}

/** Lets EKS give a role to pods, by Pod Identity: no OpenID Connect provider, no annotation, no token. */
export const podsAssume = JSON.stringify({
  Version: "2012-10-17",
  Statement: [
    {
      Effect: "Allow",
      Principal: { Service: "pods.eks.amazonaws.com" },
      Action: ["sts:AssumeRole", "sts:TagSession"],
    },
  ],
});
