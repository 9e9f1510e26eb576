import type { Deployment } from "../cluster/deployment.ts";
import { names } from "../cluster/objects/names.ts";
import type { Machine } from "../cluster/objects/settings.ts";
import { groupStream, rolloutStream } from "../events/event-log.ts";
import { eventTable } from "../events/event-log-dynamodb.ts";
import type { Alarm } from "./alarms.ts";
import type { Cluster } from "./cluster.ts";
import { type FunctionParts, oneAtATime, readOrder } from "./functions.ts";
import { machineOf } from "./kubernetes.ts";
import type { Log } from "./log.ts";
import type { Models } from "./models.ts";
import type { Need } from "./needs.ts";
import type { Network } from "./network.ts";
import { schedule } from "./schedule.ts";
import { fromLog } from "./sources.ts";

interface RolloutParts extends FunctionParts, Cluster {
  network: Network;
  log: Log;
  models: Models;
  alarm: Alarm;
}

/**
 * The functions of rollouts (docs/ROLLOUT.md): `ops` and `manifest` take orders and write them to the log,
 * `manage` does what the log says. They come after the cluster, since `manage` makes groups on it.
 */
export function rollout(deployment: Deployment, parts: RolloutParts) {
  const { make, need, migrated, models } = parts;
  const { writeLog, redis, database, logStream } = need;
  const manage = make(
    "manage",
    [writeLog, redis, database, need.models, logStream, onCluster(deployment, parts)],
    // Alone, it is not in its own way: two would decide the same, and one of them in vain.
    { timeout: "300 seconds", tolerated: 0, ticks: true, ...oneAtATime(), after: migrated },
  );
  accessToKubernetes(manage, parts);
  triggersOf(manage, parts);

  // Nothing calls it but people, with the rights to.
  const operations = [readOrder(parts), need.models, need.operations, need.deadLetters];
  const ops = make("ops", [writeLog, redis, database, ...operations], { after: migrated });

  const manifest = make("manifest", [writeLog, manifestsIn(models)], { tolerated: 0 });
  models.notify({
    notifications: [
      {
        name: "Manifest",
        function: manifest.arn,
        events: ["s3:ObjectCreated:*"],
        ...{ filterPrefix: manifests, filterSuffix: ".json" },
      },
    ],
  });
  return { manage, ops, manifest };
}

/** Where manifests lie in the bucket of models (functions/manifest.ts). */
const manifests = "rollouts/";

const manifestsIn = ({ arn }: Models): Need => ({
  permissions: [
    {
      actions: ["s3:GetObject", "s3:GetObjectVersion"],
      resources: [$interpolate`${arn}/${manifests}*`],
    },
    // Without it S3 says AccessDenied, and not NoSuchKey, of an object that is not there any more.
    { actions: ["s3:ListBucket"], resources: [arn] },
  ],
});

/** Each minute, and at once when something is written of a rollout or of a group. */
function triggersOf(manage: sst.aws.Function, { log, alarm }: RolloutParts): void {
  schedule("ManageTick", manage);
  const prefixes = [rolloutStream(""), groupStream("")].map((prefix) => ({ prefix }));
  const pattern = { dynamodb: { Keys: { [eventTable.hashKey]: { S: prefixes } } } };
  fromLog("manage", manage, log, alarm, {
    filterCriteria: { filters: [{ pattern: JSON.stringify(pattern) }] },
    // What is missed here the next tick finds, so nothing is waited for long, and nothing is noted.
    startingPosition: "LATEST",
    ...{ maximumRetryAttempts: 2, maximumRecordAgeInSeconds: 300 },
  });
}

/**
 * What `manage` knows of the cluster, and may do with it: to look at it and to give groups their nodes. It
 * is linked and no variable, as it grows with each revision, and Lambda takes 4 KB of variables in all.
 */
function onCluster(deployment: Deployment, { eks, pools, settings }: RolloutParts): Need {
  const link = new sst.Linkable("Cluster", {
    properties: { name: eks.name, deployment, settings, machines: machines(deployment) },
  });
  return {
    link: [link],
    permissions: [
      { actions: ["eks:DescribeCluster", "eks:ListNodegroups"], resources: [eks.arn] },
      {
        actions: ["eks:DescribeNodegroup", "eks:UpdateNodegroupConfig"],
        resources: pools.map(({ arn }) => arn),
      },
    ],
  };
}

/** The machines of all revisions, by EC2's names of them. */
function machines({ models }: Deployment): Record<string, Machine> {
  const types = models.flatMap(({ revisions }) => revisions.map((one) => one.instanceType));
  return Object.fromEntries(
    types.map((type) => {
      const { vcpus, memoryBytes, gpus, efaCards } = machineOf(type);
      return [type, { vcpus, memoryBytes, efaCards, ...(gpus && { gpus: { count: gpus.count } }) }];
    }),
  );
}

/**
 * Lets `manage` be somebody to Kubernetes, where the role of the same name says what it may do
 * (cluster/objects/access.ts), and lets it get there: within the VPC the API's address is a private one,
 * behind the security group that EKS makes, which knows its own members alone.
 */
function accessToKubernetes(manage: sst.aws.Function, { eks, network }: RolloutParts): void {
  new aws.eks.AccessEntry("ManageAccess", {
    clusterName: eks.name,
    principalArn: manage.nodes.role.arn,
    kubernetesGroups: [names.rolloutUsers],
  });
  new aws.vpc.SecurityGroupIngressRule("FunctionsToKubernetes", {
    securityGroupId: eks.vpcConfig.apply(({ clusterSecurityGroupId }) => clusterSecurityGroupId),
    referencedSecurityGroupId: network.groups.functions.id,
    ...{ ipProtocol: "tcp", fromPort: 443, toPort: 443 },
    description: "Rollouts reach the Kubernetes API",
  });
}
