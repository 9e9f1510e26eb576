import type { Deployment } from "../cluster/deployment.ts";
import { names, namespace } from "../cluster/objects/names.ts";
import { baseObjects, groupObjects, type KubernetesObject } from "../cluster/objects/objects.ts";
import type { ClusterSettings, Machine } from "../cluster/objects/settings.ts";
import { findInstanceType } from "../cluster/plan/instances.ts";
import type { ClusterParts } from "./cluster.ts";

interface ObjectParts extends ClusterParts {
  eks: aws.eks.Cluster;
  image: $util.Output<string>;
  after: $util.Resource[];
}

/** Its CRD, its webhook and its rights: the release of the project, as it is. */
const leaderWorkerSetRelease =
  "https://github.com/kubernetes-sigs/lws/releases/download/v0.8.0/manifests.yaml";

/**
 * Applies the objects that cluster/objects/ builds. Pulumi's provider for Kubernetes does it, at the time
 * of the deployment and from where that runs: plain objects go in, it finds their order, waits until they
 * are there, shows what would change (`npx sst diff`), and removes what is gone. A function of ours could
 * do the same only by being all of this.
 *
 * Groups are not waited for: weights take minutes to load, and the plan may say that there are none yet.
 */
export function applyObjects(deployment: Deployment, parts: ObjectParts): void {
  const provider = new kubernetes.Provider("Kubernetes", {
    kubeconfig: kubeconfig(deployment, parts.eks),
    enableServerSideApply: true,
  });
  const options = { provider, dependsOn: parts.after };
  const controller = new kubernetes.yaml.v2.ConfigFile(
    "LeaderWorkerSets",
    { file: leaderWorkerSetRelease },
    options,
  );
  const settings = clusterSettings(parts);
  const base = new kubernetes.yaml.v2.ConfigGroup(
    "Base",
    {
      objs: objects(settings, (settled) => baseObjects(deployment, settled, { machineOf })),
      skipAwait: true,
    },
    options,
  );
  const secrets = new kubernetes.yaml.v2.ConfigGroup(
    "Secrets",
    { objs: secretObjects(parts) },
    { provider, dependsOn: [base] },
  );
  for (const revision of deployment.models.flatMap(({ revisions }) => revisions)) {
    new kubernetes.yaml.v2.ConfigGroup(
      `Group-${revision.revision}`,
      {
        objs: objects(settings, (settled) =>
          groupObjects(deployment, revision, settled, { machineOf }),
        ),
        skipAwait: true,
      },
      { provider, dependsOn: [base, secrets, controller] },
    );
  }
}

const objects = (
  settings: $util.Output<ClusterSettings>,
  build: (settings: ClusterSettings) => KubernetesObject[],
) => settings.apply((settled) => build(settled));

function machineOf(name: string): Machine {
  const found = findInstanceType(name);
  if (found !== undefined) return found;
  throw new Error(`${name} is not in cluster/plan/instances.ts.`);
}

function clusterSettings(parts: ObjectParts): $util.Output<ClusterSettings> {
  const { image, models, network, queues, cache, socket, handlers } = parts;
  const { connect, disconnect, unrouted, chat, resume, cancel } = handlers;
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
