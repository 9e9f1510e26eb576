import example from "../../axon.config.ts";
import { type Deployment, defineDeployment, type Revision } from "../../cluster/deployment.ts";
import { groupNetwork, groupSet, revisionObjects } from "../../cluster/objects/group-set.ts";
import { nodeGroupName } from "../../cluster/objects/names.ts";
import type { KubernetesObject } from "../../cluster/objects/objects.ts";
import type { ClusterSettings, Machine } from "../../cluster/objects/settings.ts";

/** Deployments for the tests of Kubernetes' objects, and an account that does not exist. */

const account = "https://sqs.us-east-1.amazonaws.com/123456789012";

export const settings: ClusterSettings = {
  image: "123456789012.dkr.ecr.us-east-1.amazonaws.com/axon:test",
  modelBucket: "axon-models",
  vpcCidr: "10.0.0.0/16",
  redisPorts: [6_379, 6_380],
  queues: new Proxy(
    {},
    {
      get: (_, revision) => ({
        jobsQueueUrl: `${account}/axon-jobs-${String(revision)}`,
        deadQueueUrl: `${account}/axon-jobs-${String(revision)}-dead`,
        reportsQueueUrl: `${account}/axon-reports.fifo`,
      }),
    },
  ),
  relay: {
    connectionsEndpoint: "https://abc123.execute-api.us-east-1.amazonaws.com/test",
    functions: { $connect: "axon-connect", $disconnect: "axon-disconnect", chat: "axon-chat" },
    certificateArn: "arn:aws:acm:us-east-1:123456789012:certificate/0",
  },
};

const GiB = 2 ** 30;
const machines: Record<string, Machine> = {
  "p4d.24xlarge": { vcpus: 96, memoryBytes: 1_152 * GiB, gpus: { count: 8 }, efaCards: 4 },
  "c7i.8xlarge": { vcpus: 32, memoryBytes: 64 * GiB, efaCards: 0 },
};

export function machineOf(instanceType: string): Machine {
  const machine = machines[instanceType];
  if (machine === undefined) throw new Error(`The tests know no ${instanceType}.`);
  return machine;
}

const [llama] = example.models;
const [first] = llama?.revisions ?? [];
if (llama === undefined || first === undefined) throw new Error("axon.config.ts has no model.");
const engine = { ...first.engine, image: "vllm:test" } as Revision["engine"];
const revision: Revision = { ...first, engine };

/** The example of axon.config.ts, with another revision in its place. */
export function deploymentOf(
  changes: Partial<Revision>,
  more: Partial<Deployment> = {},
): { deployment: Deployment; revision: Revision } {
  const changed = { ...revision, ...changes } as Revision;
  const deployment = defineDeployment({
    ...example,
    models: [{ ...llama, revisions: [changed] }],
    ...more,
  } as Deployment);
  return { deployment, revision: changed };
}

/** All that a rollout makes for the seventh group of a revision, and for the revision before. */
export function groupObjects({
  deployment,
  revision: of,
}: ReturnType<typeof deploymentOf>): KubernetesObject[] {
  const machine = machineOf(of.instanceType);
  const context = { deployment, model: "llama-3-70b", revision: of, settings, machine };
  const groupId = `${of.revision}-7`;
  return [
    ...revisionObjects(context),
    ...groupNetwork(context, groupId),
    groupSet(context, groupId, nodeGroupName(of.revision, 0)),
  ];
}

const ray = { ...engine, executor: "ray" } as Revision["engine"];

/** The groups whose manifests are kept in golden/. */
export const groups: Record<string, ReturnType<typeof deploymentOf>> = {
  "one-node": deploymentOf({ nodes: 1, pipelineParallel: 1, groups: { min: 1, max: 1 } }),
  "two-nodes": deploymentOf({}),
  "four-nodes": deploymentOf({ nodes: 4, pipelineParallel: 4, groups: { min: 0, max: 1 } }),
  "two-nodes-ray": deploymentOf({ engine: ray, groups: { min: 1, max: 1 } }),
  "embedded-two-nodes": deploymentOf({
    engine: { kind: "embedded", weights: "int8" },
    instanceType: "c7i.8xlarge",
    nodes: 2,
    tensorParallel: 2,
    pipelineParallel: 1,
    groups: { min: 1, max: 1 },
  }),
};
