import { EKSClient } from "@aws-sdk/client-eks";
import { Redis } from "ioredis";
import example from "../../axon.config.ts";
import { type Deployment, defineDeployment } from "../../cluster/deployment.ts";
import {
  groupName,
  namespace,
  nodeGroupLabel,
  nodeGroupName,
} from "../../cluster/objects/names.ts";
import { kubernetesApi } from "../../functions/lib/eks/api.ts";
import { eksCluster } from "../../functions/lib/eks/eks-cluster.ts";
import { eksToken } from "../../functions/lib/eks/token.ts";
import { machineOf, settings } from "../cluster/deployments.ts";
import { freshRedis } from "../support/parts.ts";
import type { ClusterUnderTest } from "./cluster-port.contract.ts";
import { EksStub } from "./eks-stub.ts";
import { KubernetesStub } from "./kubernetes-stub.ts";

/** A cluster of EKS: both of its APIs as stubs, and node groups whose nodes come a moment after they are asked for. */

export const paths = {
  sets: `/apis/leaderworkerset.x-k8s.io/v1/namespaces/${namespace}/leaderworkersets`,
  configMaps: `/api/v1/namespaces/${namespace}/configmaps`,
  policies: `/apis/networking.k8s.io/v1/namespaces/${namespace}/networkpolicies`,
  pods: `/api/v1/namespaces/${namespace}/pods`,
  nodes: "/api/v1/nodes",
} as const;

const [llama] = example.models;
const [template] = llama?.revisions ?? [];
if (llama === undefined || template === undefined) throw new Error("axon.config.ts has no model.");
const revision = (name: string, nodes: number) => ({
  ...template,
  ...{ revision: name, nodes, pipelineParallel: nodes, groups: { min: 0, max: 3 } },
});

export const deployment: Deployment = defineDeployment({
  ...example,
  models: [
    { ...llama, model: "llama", default: true, revisions: [revision("r1", 2), revision("r2", 1)] },
    { ...llama, model: "other", default: false, revisions: [revision("o1", 1)] },
  ],
});

/** @returns the cluster's name that the token is bound to. @throws Error where it is none. */
export function clusterOfToken(token: string): URL {
  const [, text] = /^k8s-aws-v1\.([A-Za-z0-9_-]+)$/.exec(token) ?? [];
  if (text === undefined) throw new Error("no token of EKS");
  const url = new URL(Buffer.from(text, "base64url").toString("utf8"));
  const query = url.searchParams;
  const isBound = query.get("X-Amz-SignedHeaders") === "host;x-k8s-aws-id";
  if (query.get("Action") !== "GetCallerIdentity" || !isBound)
    throw new Error("not what is signed");
  return url;
}

export interface EksUnderTest extends ClusterUnderTest {
  eks: EksStub;
  eksUrl: string;
  redisUrl: string;
  kubernetes: KubernetesStub;
}

export async function startEks(): Promise<EksUnderTest> {
  const kubernetes = new KubernetesStub(clusterOfToken);
  const eks = new EksStub();
  for (const { revisions } of deployment.models) {
    for (const { revision: name, nodes, groups } of revisions) {
      for (let i = 0; i < groups.max; i++) {
        eks.nodeGroups.set(nodeGroupName(name, i), { desiredSize: 0, maxSize: nodes, issues: [] });
      }
    }
  }
  eks.scaled = (name, size) => setTimeout(() => setNodes(kubernetes, name, size), 50);
  const running = new Set<string>();
  kubernetes.created = (path, { metadata }) => {
    if (path === paths.sets) running.add(metadata.name);
  };
  // A set that is deleted is seen until its pods have ended.
  kubernetes.deleted = (path, { metadata }) => {
    if (path !== paths.sets) return kubernetes.take(path, metadata.name);
    setTimeout(() => {
      running.delete(metadata.name);
      kubernetes.take(path, metadata.name);
    }, 50);
  };
  const [endpoint, kubernetesUrl] = await Promise.all([eks.start(), kubernetes.start()]);
  eks.kubernetesUrl = kubernetesUrl;
  const redisUrl = await freshRedis();
  const redis = new Redis(redisUrl, { maxRetriesPerRequest: 1 });
  const clients: { destroy(): void }[] = [];
  const adapter = () => {
    const client = new EKSClient({
      ...{ endpoint, region: "us-east-1", maxAttempts: 1 },
      credentials: { accessKeyId: "test", secretAccessKey: "test" },
      requestHandler: { requestTimeout: 1_000, throwOnRequestTimeout: true },
    });
    const api = kubernetesApi(
      async () => ({ endpoint: kubernetesUrl, authority: undefined }),
      eksToken(client, "axon-test", Date.now),
    );
    clients.push(client, { destroy: api.close });
    return eksCluster({
      ...{ eks: client, kubernetes: api, redis, cluster: "axon-test", deployment },
      ...{ settings, machineOf },
    });
  };
  return {
    ...{ eks, eksUrl: endpoint, kubernetes, redis, redisUrl, port: adapter() },
    restarted: async () => adapter(),
    runs: (groupId) => running.has(groupName(groupId)),
    // That is between Kubernetes and the group: its set stays.
    kill: async () => {},
    async breakDown() {
      await Promise.all([eks.stop(), kubernetes.stop()]);
    },
    async close() {
      for (const client of clients) client.destroy();
      redis.disconnect();
      await Promise.allSettled([eks.stop(), kubernetes.stop()]);
    },
  };
}

function setNodes(kubernetes: KubernetesStub, nodeGroup: string, size: number): void {
  for (const { metadata } of kubernetes.find(paths.nodes)) {
    if (metadata.labels?.[nodeGroupLabel] === nodeGroup)
      kubernetes.take(paths.nodes, metadata.name);
  }
  for (let i = 0; i < size; i++) {
    const name = `${nodeGroup}-node-${i}`;
    kubernetes.put(paths.nodes, name, {
      ...{ apiVersion: "v1", kind: "Node" },
      metadata: { name, labels: { [nodeGroupLabel]: nodeGroup } },
      status: { conditions: [{ type: "Ready", status: "True" }] },
    });
  }
}
