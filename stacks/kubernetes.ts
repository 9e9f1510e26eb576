import type { Deployment } from "../cluster/deployment.ts";
import { names, namespace } from "../cluster/objects/names.ts";
import { baseObjects } from "../cluster/objects/objects.ts";
import type { ClusterSettings, Machine } from "../cluster/objects/settings.ts";
import { findInstanceType } from "../cluster/plan/instances.ts";
import type { ClusterParts } from "./cluster.ts";

interface ObjectParts extends ClusterParts {
  eks: aws.eks.Cluster;
  settings: $util.Output<ClusterSettings>;
  after: $util.Resource[];
}

/** Its CRD, its webhook and its rights: the release of the project, as it is. */
const leaderWorkerSetRelease =
  "https://github.com/kubernetes-sigs/lws/releases/download/v0.8.0/manifests.yaml";

/**
 * Applies the objects that all groups count on, by Pulumi's provider for Kubernetes, at the time of the
 * deployment and from where that runs: plain objects go in, it finds their order, shows what would change
 * (`npx sst diff`), and removes what is gone.
 *
 * The objects of a revision and of its groups are not among them. They come and go by rollouts, between
 * deployments, so the function `manage` makes them (functions/lib/eks/eks-cluster.ts), and it alone: applied
 * from here as well, each would undo what the other has done.
 */
export function applyObjects(deployment: Deployment, parts: ObjectParts): void {
  const provider = new kubernetes.Provider("Kubernetes", {
    kubeconfig: kubeconfig(deployment, parts.eks),
    enableServerSideApply: true,
  });
  const options = { provider, dependsOn: parts.after };
  new kubernetes.yaml.v2.ConfigFile("LeaderWorkerSets", { file: leaderWorkerSetRelease }, options);
  const base = new kubernetes.yaml.v2.ConfigGroup(
    "Base",
    {
      objs: parts.settings.apply((settings) => baseObjects(deployment, settings, { machineOf })),
      skipAwait: true,
    },
    options,
  );
  new kubernetes.yaml.v2.ConfigGroup(
    "Secrets",
    { objs: secretObjects(parts) },
    { provider, dependsOn: [base] },
  );
}

/** What a machine has, by EC2's name of it. */
export function machineOf(name: string): Machine {
  const found = findInstanceType(name);
  if (found !== undefined) return found;
  throw new Error(`${name} is not in cluster/plan/instances.ts.`);
}

/** What objects need to know of the account: those made here, and those that rollouts make. */
export function clusterSettings(
  image: $util.Output<string>,
  { models, network, queues, cache, socket, handlers }: ClusterParts,
): $util.Output<ClusterSettings> {
  const { connect, disconnect, unrouted, chat, resume, cancel, observe, operate } = handlers;
  return $util.output({
    image,
    modelBucket: models.name,
    vpcCidr: network.vpc.nodes.vpc.cidrBlock,
    redisPorts: [cache.redis.port],
    queues: Object.fromEntries(
      [...queues.jobs].map(([revision, { queue, dead }]) => [
        revision,
        {
          jobsQueueUrl: queue.url,
          deadQueueUrl: dead.url,
          reportsQueueUrl: queues.reports.queue.url,
        },
      ]),
    ),
    relay: {
      connectionsEndpoint: socket.managementEndpoint,
      functions: {
        ...{ $connect: connect.name, $disconnect: disconnect.name, $default: unrouted.name },
        ...{ chat: chat.name, resume: resume.name, cancel: cancel.name },
        ...{ observe: observe.name, operate: operate.name },
      },
    },
  });
}

/** What pods must know and nobody else: how to reach Redis, and by what ranks of one group trust each other. */
function secretObjects({ cache }: ObjectParts) {
  const group = new random.RandomPassword("GroupSecret", { length: 48, special: false });
  const secret = (name: string, stringData: Record<string, $util.Input<string>>) => ({
    ...{ apiVersion: "v1", kind: "Secret", type: "Opaque" },
    metadata: { name, namespace },
    stringData,
  });
  return [
    secret(names.redisSecret, { REDIS_URL: $util.secret(cache.url) }),
    secret(names.groupSecret, { AXON_GROUP_SECRET: group.result }),
  ];
}

/** A token for each command, by the AWS CLI of whoever deploys: a fixed one would be old before nodes are there. */
function kubeconfig({ region }: Deployment, eks: aws.eks.Cluster): $util.Output<string> {
  const certificate = eks.certificateAuthority.apply(({ data }) => data);
  return $jsonStringify({
    ...{ apiVersion: "v1", kind: "Config", "current-context": "axon" },
    clusters: [
      {
        name: "axon",
        cluster: { server: eks.endpoint, "certificate-authority-data": certificate },
      },
    ],
    contexts: [{ name: "axon", context: { cluster: "axon", user: "axon" } }],
    users: [
      {
        name: "axon",
        user: {
          exec: {
            apiVersion: "client.authentication.k8s.io/v1beta1",
            command: "aws",
            args: ["eks", "get-token", "--cluster-name", eks.name, "--region", region],
            interactiveMode: "Never",
          },
        },
      },
    ],
  });
}
